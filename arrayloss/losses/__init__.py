"""The formulas, a file a family: every loss is a kernel with its public function directly beneath.

A kernel is a generator over the array API: its first `yield` is the loss of every element, the next its derivative with
respect to the prediction, the last (optional) the second derivative. In kernels `x` is the prediction, `t` the target,
`p` a probability, `q` is 1 - p, `r` a residual.

Arguments that all losses share
-------------------------------
weights : number or array
    Factor of every element: a number, a 0-d array, or an array with the dimensions of the unreduced loss, each size equal
    or 1. A weight of 0 is not a mask: 0 * NaN is NaN.
where : boolean array
    True where an element counts, shaped like `weights`. What is left out is taken out before anything is computed: a NaN
    there reaches neither the value nor the gradient, and `reduction="none"` gives 0 there.
ignore_index : int or tuple of int
    Values of integer targets that are left out likewise. With floating-point targets it is an error: use `where`.
reduction : "mean", "sum" or "none"
    The mean is sum(w*l) / sum(w) over the elements that count, w being `weights` times the class weight of the target; over
    nothing it is 0 with gradient 0. "none" gives the loss of every element.
reduce_axes : int or tuple of int
    The axes that are reduced, counted in the predictions; all by default. (1, 2) of (N, H, W) gives one loss a sample.
normalizer : "weights", "count", number or 0-d array
    What a mean divides by: the weights, the number of elements that count (as PyTorch's binary cross-entropy and Keras do), or
    the given number.

Results have the dtype of the predictions; of float16 and bfloat16, which are computed in float32 and rounded once, the mean
and the sum are float32. Predictions are never clipped: an infinite loss is infinite, and a NaN that is not left out stays.
The gradient of a mean over very many elements underflows in float16: scale the loss, or pass `x.astype(float32)`.
Shapes that do not agree, parameters out of range and labels that name no class raise `ValueError`, wrong types `TypeError`;
where reading a label would stop a compiler or a GPU, the loss of a label out of range is NaN instead.
"""
