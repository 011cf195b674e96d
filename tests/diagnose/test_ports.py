"""The diagnosis says of every port what a reader of its code would say."""

from __future__ import annotations

import pytest

from arrayloss.diagnose import diagnose
from arrayloss.frontend.loss import REGISTRY

from .ports import Port, parameters

for needed in ("torch", "jax"):
    pytest.importorskip(needed)

from .right import RIGHT  # noqa: E402
from .wrong import WRONG  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # PyTorch warns of what some ports ask it for

# Codes of functions that give no numbers, and that of the verdict `digits`: those are tested elsewhere and below.
CODES = """
    factor denominator sum_for_mean mean_for_sum sign axis softmax_twice softmax_missing sigmoid_twice sigmoid_missing
    sigmoid_for_softmax softmax_for_sigmoid alpha_swapped alpha_constant alpha_missing gamma option label_smoothing clamp epsilon
    labels_shifted ignored_label_counted offset detached zero_gradient wrong_gradient gradient_of_another inputs_changed noise state
    batch_dependence overflow float16 strided from_classes from_elements dtype shape another_loss unexplained
"""


@pytest.mark.parametrize(
    "port",
    parameters(
        WRONG, lambda p: p.code, slow=("unexplained", "softmax_twice", "sigmoid_twice", "sigmoid_missing", "alpha_constant", "another_loss")
    ),
)
def test_wrong_port(port: Port) -> None:
    found = diagnose(port.function, port.library, reference=port.reference, options=dict(port.options), name=port.name)
    codes = [reason.code for reason in found.reasons]
    said = "\n".join(found.lines(80))
    assert found.verdict == "different", said
    assert codes, said
    assert codes[0] in (port.code, *port.also), said


@pytest.mark.parametrize("port", parameters(RIGHT, lambda p: p.reference))
def test_right_port(port: Port) -> None:
    found = diagnose(port.function, port.library, reference=port.reference, options=dict(port.options), name=port.name)
    said = "\n".join(found.lines(80))
    assert found.verdict == port.verdict, said
    assert {reason.code for reason in found.reasons} <= {"digits_lost"}, said
    assert (found.verdict == "digits") == bool(found.reasons), said


def test_no_code_is_forgotten() -> None:
    assert {p.code for p in WRONG} == set(CODES.split())
    assert len(WRONG) >= 60
    assert len(RIGHT) >= 20
    assert {p.verdict for p in RIGHT} == {"same", "digits"}
    assert {p.library for p in (*WRONG, *RIGHT)} == {"numpy", "torch", "jax"}
    assert {p.reference for p in (*WRONG, *RIGHT)} <= set(REGISTRY)
    for table in (WRONG, RIGHT):
        assert len({str(p) for p in table}) == len(table)
