"""Products of matrices on plain CPU tensors, for the host engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arrayloss.engine import native


class Primitives(native.NumPy):
    """NumPy's, but PyTorch's products of matrices: the threads of another BLAS would wait for the cores that PyTorch's hold."""

    def matmul(self, a: Any, b: Any) -> Any:
        if a.ndim != 2 or b.ndim != 2 or min(*a.strides, *b.strides) < 0:
            return self.library.matmul(a, b)
        left, right = _tensor(a), _tensor(b)
        result = left.new_empty((a.shape[0], b.shape[1]))
        return torch.mm(left, right, out=result).numpy()  # with `out` there is no autocast

    def add_product(self, total: Any, a: Any, b: Any) -> Any:
        torch.from_numpy(total).addmm_(_tensor(a).T, _tensor(b))
        return total


def _tensor(a: Any) -> Tensor:
    """An array as a tensor that is only read."""
    return torch.from_numpy(a if a.flags.writeable else a.copy())


PRIMITIVES = Primitives()
