"""Losses of other libraries by their own names, on every array library, without importing that library.

`arrayloss.compat.torch`, `arrayloss.compat.optax` and `arrayloss.compat.keras` have the names, the order of the arguments, the defaults and
the results of `torch.nn.functional`, `optax` and `keras.losses`. Every loss has `value_and_grad`, `grad_and_hess` and `parts` of the same
arguments. Its `repr` is the call of the native loss: how to migrate. What differs is said there, in docs/compat.md and in the errors.

>>> import numpy as np
>>> from arrayloss.compat import torch as F
>>> logits, labels = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, -100])
>>> print(f"{F.cross_entropy(logits, labels, label_smoothing=0.1):.6f}")
0.507606
>>> F.cross_entropy
<torch.nn.functional.cross_entropy of PyTorch 2.13: softmax_cross_entropy(input, target, axis=1, ignore_index=-100)>
"""
