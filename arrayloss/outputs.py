"""One loss of several outputs: dicts and tuples of predictions and targets, and a loss for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from .adapters.dispatch import adapter_of
from .core.parts import Parts, Source
from .frontend.check import choice, is_number, number
from .frontend.combination import SHARED, Algebra, check_parts

Array = Any
Tree = Any  # an array, or a dict or a tuple of trees


class Outputs:
    """A loss of dicts of predictions and targets: the sum of a loss for each output.

    Predictions and targets have the structure of the losses. An output whose loss has several predictions or targets takes a tuple of
    them. `weights`, `where`, `ignore_index` and `normalizer` go to all losses that take them or, in a dict, to the outputs that it names;
    `bind` fixes any option in the same way. `coefficients` multiply terms: numbers or 0-d arrays, in a dict.
    """

    def __init__(self, losses: Tree, missing: str = "error") -> None:
        self.losses, self.missing = losses, choice("missing", missing, ("error", "skip"))
        leaves = list(_leaves("", losses))
        self._terms = dict(leaves)
        for name, loss in leaves:
            if not isinstance(loss, Algebra):
                raise TypeError(f"the output {name!r} must have a loss; got {type(loss).__name__}")
        if not leaves or len(self._terms) != len(leaves):
            raise ValueError(
                f"outputs must be one or more, with names of their own; got {', '.join([name for name, _ in leaves]) or 'none'}"
            )
        self.names = tuple(self._terms)  # those of nested outputs are joined by dots

    def __call__(self, predictions: Tree, targets: Tree, *, coefficients: Any = None, **options: Any) -> Array:
        """The sum of the terms, 0-d."""
        return self.components(predictions, targets, coefficients=coefficients, **options)[0]

    def components(self, predictions: Tree, targets: Tree, *, coefficients: Any = None, **options: Any) -> tuple[Array, dict[str, Array]]:
        """The sum, and the terms by the names of their outputs."""
        each = self._each(predictions, targets, {"coefficients": coefficients, **options})
        terms = {name: _times(factor, _number(name, loss(*x, *t, **own))) for name, loss, x, t, factor, own in each if t is not None}
        return self._sum(terms), terms

    def value_and_grad(self, predictions: Tree, targets: Tree, *, coefficients: Any = None, **options: Any) -> tuple[Array, Tree]:
        """The sum, and its gradients in the structure of the predictions."""
        terms, gradients = {}, {}
        for name, loss, x, t, factor, own in self._each(predictions, targets, {"coefficients": coefficients, **options}):
            if t is None:
                gradients[name] = tuple([adapter_of(a, name).xp.zeros_like(a) for a in x])
                continue
            value, gradient = loss.value_and_grad(*x, *t, **own)
            terms[name] = _times(factor, _number(name, value))
            gradients[name] = tuple([_times(factor, g) for g in (gradient if isinstance(gradient, tuple) else (gradient,))])
        return self._sum(terms), _rebuilt("", predictions, self.losses, gradients)

    def parts(self, predictions: Tree, targets: Tree, **options: Any) -> Parts:
        """The sums behind all terms, which add over batches and processes. Those of a term that is skipped are 0."""
        sources: list[Source] = []
        arrays: list[Array] = []
        for name, loss, x, t, _, own in self._each(predictions, targets, options):
            parts = _zero_parts(name, loss, x) if t is None else loss.parts(*x, *t, **own)
            sources += [replace(s, prefix=f"{name}_{s.prefix}") for s in parts.sources]
            arrays += parts.arrays
        return Parts(tuple(sources), tuple(arrays))

    def finish(self, parts: Parts | int, *, coefficients: Any = None, normalizer: Any = None) -> Array:
        """The number that the parts stand for; differentiable."""
        parts = check_parts(parts, " + ".join([loss.origin for term in self._terms.values() for _, loss in term._terms()]))
        each, terms = iter(parts.split()), {}
        shared = {"coefficients": coefficients} | ({} if normalizer is None else {"normalizer": normalizer})
        for name, (loss, factor, own) in self._options_of_terms(shared).items():
            some = [next(each) for _ in loss._terms()]
            joined = Parts(tuple([p.sources[0] for p in some]), tuple([a for p in some for a in p.arrays]))
            terms[name] = _times(factor, loss.finish(joined, **own))
        return self._sum(terms)

    def bind(self, **options: Any) -> Outputs:
        """The same outputs with options and coefficients fixed, for all losses that have them or, in a dict, for the outputs it names."""
        each = [(n, loss.bind(**own), number("coefficients", factor)) for n, (loss, factor, own) in self._options_of_terms(options).items()]
        bound = {name: (loss if factor == 1 else factor * loss,) for name, loss, factor in each}
        return Outputs(_rebuilt("", self.losses, self.losses, bound), self.missing)

    def _each(
        self, predictions: Tree, targets: Tree, options: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any, Any, Any, Any, dict[str, Any]]]:
        """Of every output its name, loss, predictions, targets (None: it is skipped), coefficient and options."""
        for name in options:
            if name not in (*SHARED, "coefficients"):
                raise TypeError(f"outputs take coefficients, {', '.join(SHARED)}; got {name!r}: bind it to the losses that need it")
        x = dict(_matched("predictions", "", predictions, self.losses, False))
        t = dict(_matched("targets", "", targets, self.losses, self.missing == "skip"))
        for name, (loss, factor, own) in self._options_of_terms(options).items():
            yield name, loss, x[name], t[name], factor, own

    def _options_of_terms(self, options: Mapping[str, Any]) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
        """The loss of every output, its coefficient and its options."""
        each: dict[str, tuple[Any, Any, dict[str, Any]]] = {name: (loss, 1, {}) for name, loss in self._terms.items()}
        for option, value in options.items():
            takers = [n for n, term in self._terms.items() if any(option in loss.option_names for _, loss in term._terms())]
            named = dict(_named(value)) if isinstance(value, Mapping) else dict.fromkeys(takers, value)
            if option == "coefficients" and not isinstance(value, (Mapping, type(None))):
                raise TypeError(f"coefficients must be a dict of numbers by output; got {type(value).__name__}")
            if option != "coefficients" and not isinstance(value, Mapping) and not takers:
                raise TypeError(f"no loss of these outputs takes {option!r}: they are {', '.join(self.names)}")
            for name, own in named.items():
                if name not in each:
                    raise ValueError(f"{option} must be for some of the outputs {', '.join(self.names)}; got one for {name!r}")
                loss, factor, others = each[name]
                each[name] = (loss, own, others) if option == "coefficients" else (loss, factor, {**others, option: own})
        return each

    def _sum(self, terms: Mapping[str, Array]) -> Array:
        if not terms:
            raise ValueError(f"targets must have one of the outputs {', '.join(self.names)}; got none of them")
        return reduce(add, terms.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outputs) and (self._terms, self.missing) == (other._terms, other.missing)

    def __hash__(self) -> int:
        return hash((tuple(self._terms.items()), self.missing))

    def __repr__(self) -> str:
        return f"outputs({self.losses!r}{'' if self.missing == 'error' else f', missing={self.missing!r}'})"


def outputs(losses: Tree = None, /, *, missing: str = "error", **named: Any) -> Outputs:
    """The loss of a model with several outputs, from a loss for each: by name, or in a dict or a tuple, nested at will.

    losses : dict or tuple, optional
        Losses by output, in the structure of the predictions; instead of names, or, a dict, beside them.
    missing : "error" or "skip"
        What becomes of a target that is None or is not there: an error that names it, or its term is left out. The parts of a term that
        is left out are 0 and count nothing; its gradient is 0.

    >>> import numpy as np
    >>> from arrayloss import huber_loss, outputs, squared_error
    >>> both = outputs(energy=0.02 * squared_error, forces=huber_loss.bind(delta=0.01))
    >>> predictions = {"energy": np.array([1.0, 3.0]), "forces": np.zeros((2, 3))}
    >>> targets = {"energy": np.array([1.0, 2.0]), "forces": np.full((2, 3), 0.1)}
    >>> total, terms = both.components(predictions, targets)
    >>> {name: round(float(term), 6) for name, term in terms.items()}
    {'energy': 0.01, 'forces': 0.00095}
    >>> value, gradients = both.value_and_grad(predictions, targets, coefficients={"forces": 10.0})
    >>> gradients["energy"]
    array([0.  , 0.02])
    >>> parts = both.parts(predictions, targets) + both.parts(predictions, targets)
    >>> round(float(both.finish(parts)), 6) == round(float(total), 6)
    True
    """
    if losses is not None and named and not isinstance(losses, Mapping):
        raise TypeError(f"losses by name stand beside a dict of losses only; got a {type(losses).__name__}")
    return Outputs({**(losses or {}), **named} if named else losses or {}, missing)


def _items(tree: Tree) -> Any:
    """The names and the trees that a tree is made of; None for an array or a loss."""
    return tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (tuple, list)) else None


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _leaves(name: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    if _items(tree) is None:
        yield name, tree
    for key, inner in _items(tree) or ():
        yield from _leaves(_join(name, key), inner)


def _named(options: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Values of an option by output, from a dict that may be nested. Tuples are values."""
    for key, value in options.items():
        yield from _named(value, _join(name, key)) if isinstance(value, Mapping) else [(_join(name, key), value)]


def _matched(what: str, name: str, tree: Tree, losses: Tree, may_lack: bool) -> Iterator[tuple[str, Any]]:
    """The arrays of each output, a tuple; None where they are missing and may be."""
    inner, of = _items(losses), f" of {name!r}" if name else ""
    if tree is None and not may_lack:
        raise ValueError(f"{what} must have every output; got none{of}")
    if inner is None:
        yield name, None if tree is None else tuple(tree) if isinstance(tree, (tuple, list)) else (tree,)
        return
    keys = dict(inner)
    if tree is not None and (_items(tree) is None or isinstance(tree, Mapping) != isinstance(losses, Mapping)):
        kind = "dict" if isinstance(losses, Mapping) else "tuple"
        raise TypeError(f"{what}{of} must be a {kind} of {', '.join(map(str, keys))}; got {type(tree).__name__}")
    given = {} if tree is None else dict(_items(tree))
    for key in given:
        if key not in keys:
            raise ValueError(f"{what} must be for the outputs {', '.join(map(str, keys))}{of}; got one for {_join(name, key)!r}")
    for key, loss in keys.items():
        yield from _matched(what, _join(name, key), given.get(key), loss, may_lack)


def _rebuilt(name: str, tree: Tree, losses: Tree, values: Mapping[str, tuple[Any, ...]]) -> Tree:
    """A tree like `tree` with other values."""
    if _items(losses) is None:
        return values[name] if isinstance(tree, (tuple, list)) else values[name][0]
    of = dict(_items(losses))
    inner = {key: _rebuilt(_join(name, key), value, of[key], values) for key, value in _items(tree)}
    if isinstance(tree, Mapping):
        return inner
    return type(tree)(*inner.values()) if hasattr(tree, "_fields") else type(tree)(inner.values())


def _number(name: str, value: Array) -> Array:
    if value.ndim:
        raise ValueError(f"the loss of an output must be one number; got shape {tuple(value.shape)} of {name!r}: bind another reduction")
    return value


def _times(factor: Any, value: Array) -> Array:
    """A number, or a 0-d array that may be differentiated, times a term or its gradient, in their dtype."""
    if is_number(factor):
        return value if factor == 1 else float(factor) * value
    if getattr(factor, "ndim", True):
        came = f"shape {tuple(factor.shape)}" if hasattr(factor, "shape") else type(factor).__name__
        raise TypeError(f"coefficients must be numbers or 0-d arrays; got {came}")
    return adapter_of(value).xp.astype(factor, value.dtype, copy=False) * value


def _zero_parts(name: str, loss: Any, x: tuple[Array, ...]) -> Parts:
    """Parts of a term without targets: zeros stand in for these, or labels 0."""
    axes = [each.options["axis"] for _, each in loss._terms() if each.options.get("axis") is not None]
    xp = adapter_of(x[0], name).xp
    for has_labels in (False, True):
        with suppress(TypeError, ValueError, IndexError):
            shape = x[0] if not has_labels else xp.sum(x[0], axis=axes[0] if axes else 1)
            parts: Parts = loss.parts(*x, xp.zeros_like(shape, dtype=xp.int64 if has_labels else None)).map(xp.zeros_like)
            return parts
    raise ValueError(f"targets must have the output {name!r}: its loss takes no zeros or labels 0 in their place, which parts need")
