"""Functions of the user's own, one a library, in this process: a diagnosis of each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from arrayloss.check.compare import check
from arrayloss.check.libraries import LIBRARIES
from arrayloss.check.run import named_loss, target_position
from arrayloss.frontend.loss import Loss

from .result import Diagnosis, Reason
from .verdict import diagnose, identify
from .works import libraries_of

PROBED = ("signature", "reduction", "domain", "targets")  # what is found out where it is not given


def is_diagnosed(subject: Any, options: Mapping[str, Any]) -> bool:
    """Whether these are functions of the user's own whose call is to be found out, beside one of our losses or none."""
    reference = options.get("reference")
    is_ours = reference is None or (isinstance(reference, str) and reference != "mpmath" and ":" not in reference)
    is_declared = all(options.get(name) is not None for name in ("signature", "reduction"))
    return not isinstance(subject, str | Loss) and is_ours and not is_declared


def diagnosed(
    subject: Callable[..., Any] | Mapping[str, Callable[..., Any]],
    *,
    reference: str | None = None,
    backends: Sequence[str] | None = None,
    **options: Any,
) -> list[Diagnosis]:
    """A diagnosis of each function. Without a reference the first is identified, and what it is is the reference of the others."""
    flags = {name: options.pop(name) for name in PROBED if options.get(name) is not None}
    for name in options:
        if name in signature(check).parameters:
            raise ValueError(f"{name} is for a check of numbers: declare signature and reduction of the functions too")
    if reference is None and (unused := [*options, *(set(flags) - {"signature"})]):
        raise ValueError(f"{unused[0]} belongs to a reference: name one of our losses, reference='sigmoid_focal_loss'")
    if reference is not None:
        reference = named_loss(reference).bind(**options).name
    if "signature" in flags:
        position = target_position(flags["signature"])
        flags["signature"] = -1 if position == flags["signature"].count(",") else position
    if isinstance(flags.get("targets"), str):
        flags["targets"] = (flags["targets"],)
    found: list[Diagnosis] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a function where it overflows: its own affair
        for function, libraries in _functions(subject, backends):
            some = [_one(function, library, reference, options, flags) for library in libraries[:1]]
            for library in libraries[1:]:
                if some[-1].verdict != "not_compared":
                    break
                some.append(_one(function, library, reference, options, flags))
            found.append(next((d for d in some if d.verdict != "not_compared"), some[0]))
            if reference is None and found[-1].verdict in ("same", "digits"):
                reference, options = found[-1].convention["loss"], found[-1].convention["options"]
    return found


def _functions(subject: Any, backends: Sequence[str] | None) -> list[tuple[Callable[..., Any], list[str]]]:
    """Each function and the libraries that it may be for."""
    if not isinstance(subject, Mapping):
        libraries = [name for name in libraries_of(subject) if backends is None or name in backends]
        return [(subject, libraries)] if libraries else []
    for name in subject:
        if name not in LIBRARIES:
            raise ValueError(f"a subject is keyed by {', '.join(LIBRARIES)}; got {name!r}")
    return [(function, [name]) for name, function in subject.items() if backends is None or name in backends]


def _one(
    function: Callable[..., Any], library: str, reference: str | None, options: Mapping[str, Any], flags: Mapping[str, Any]
) -> Diagnosis:
    if missing := LIBRARIES[library].missing():
        name = getattr(function, "__name__", type(function).__name__)
        return Diagnosis(name, library, reasons=[Reason("import_error", f"{library}: {missing} here.")])
    if reference is None:
        return identify(function, library, **flags)
    return diagnose(function, library, reference=reference, options=options, **flags)
