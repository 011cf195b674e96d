"""What holds for every kind of operation, for every loss."""

from tests.test_contract_dtypes import test_16_bits_are_computed_in_float32_and_rounded_once, test_result_dtypes
from tests.test_contract_errors import test_every_loss_refuses_what_no_loss_takes
from tests.test_contract_leaving_out import (
    test_a_nan_that_is_not_masked_stays,
    test_a_weight_of_0_is_no_mask,
    test_nan_and_inf_that_are_masked_reach_nothing,
    test_second_derivatives_do_not_meet_what_is_masked,
    test_the_mean_over_nothing_is_0_with_gradient_0,
)
from tests.test_contract_objects import test_a_bound_loss_is_the_loss_with_its_options
from tests.test_contract_parts import test_parts_of_batches_add_on_every_library
from tests.test_contract_reduction import test_grad_and_hess_belong_to_the_sum, test_weights_multiply_and_the_mean_divides_by_them
from tests.test_contract_shapes import (
    test_inputs_are_not_changed,
    test_no_samples,
    test_results_are_arrays_of_the_library_on_the_device_of_the_predictions,
    test_the_layout_of_memory_does_not_matter,
)
