"""The public door for people's own losses.

A kernel is a generator over the array API: it yields the losses of the elements, then their derivative (slopes, or a pullback), then
optionally the Hessian diagonal. A builder makes a call of it, and `loss` makes a public loss of the function that calls the builder.
Every array library, masks, weights, parts and autograd follow. `special` has stable functions; `positive`, `at_least`, `fraction`,
`per_class` and `choice` check parameters.
"""

from .core import special
from .frontend.build import binary, coupled, elementwise, overlap, rows, sequences, signed
from .frontend.check import at_least, choice, fraction, per_class, positive
from .frontend.loss import Properties, loss
from .frontend.options import BinaryOptions, ElementOptions, LabelOptions, OverlapOptions, RowOptions

__all__ = [
    "BinaryOptions",
    "ElementOptions",
    "LabelOptions",
    "OverlapOptions",
    "Properties",
    "RowOptions",
    "at_least",
    "binary",
    "choice",
    "coupled",
    "elementwise",
    "fraction",
    "loss",
    "overlap",
    "per_class",
    "positive",
    "rows",
    "sequences",
    "signed",
    "special",
]
