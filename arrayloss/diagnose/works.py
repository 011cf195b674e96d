"""What a process of `worker` does: it takes a job from its parent, lets nothing out but messages, and says what came of it."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

from arrayloss.check.libraries import LIBRARIES

from .places import NotLoadedError, at, said, where
from .result import Diagnosis, Reason

Send = Callable[..., None]
ROOTS = {"torch": "torch", "jax": "jax", "cupy": "cupy", "dask": "dask", "numpy": "numpy", "array_api_strict": "strict"}
BUILT_ON = {"optax": "jax", "flax": "jax", "jaxlib": "jax", "monai": "torch", "kornia": "torch", "torchvision": "torch", "sklearn": "numpy"}
TRIED = ("torch", "jax", "numpy")


@dataclass(frozen=True)
class Job:
    """What to do with one object: "diagnose", "identify", "check" or "tables", with plain keywords. No library: it is found out."""

    text: str
    library: str | None
    work: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the object is called in a report."""
        return re.split(r"[:/\\]", self.text.partition("(")[0])[-1] or self.text

    def failure(self, *reasons: Reason) -> Diagnosis:
        """That there is no comparison, and why."""
        return Diagnosis(self.name, self.library or "", reasons=list(reasons))


@dataclass
class Outcome:
    """What came of a job: its result (a diagnosis, also of a failure), what it printed, where the function or the failure stands."""

    result: Any = None
    printed: str = ""
    file: str = ""
    line: int = 0
    failed: bool = False  # the result is the diagnosis of a failure
    stopped: bool = False  # by Ctrl-C; the result is what was known
    seconds: float = 0.0


class Watched:
    """A function that says when it is being called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        WATCH.inside += 1
        try:
            return self.__wrapped__(*arrays, **options)
        finally:
            WATCH.inside -= 1
            WATCH.ended += 1


@dataclass
class Watch:
    """How many calls of the function are going on, and how many have ended."""

    inside: int = 0
    ended: int = 0


WATCH = Watch()


def serve() -> None:
    """Do the job that stands in the standard input; messages go to what was the standard output."""
    jobs, channel, lock, leave, pid = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"), threading.Lock(), os._exit, os.getpid()
    job, folder, *limits = pickle.load(jobs)  # while it loads, and after
    for number, path in ((0, os.devnull), (1, os.path.join(folder, "out"))):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    crash = open(os.path.join(folder, "crash"), "w")  # noqa: SIM115 - to the end of the process
    faulthandler.enable(crash)

    def send(*message: Any) -> None:
        data = pickle.dumps(message)
        with lock:
            channel.write(data)
            channel.flush()
        crash.seek(0)
        crash.truncate()
        if message[0] == "source":
            del limits[0]
        faulthandler.dump_traceback_later(0.9 * limits[0], file=crash)  # where it is, before its time is over

    def leaving(status: int) -> None:
        if os.getpid() == pid:
            frame = sys._getframe(1)
            file, line = frame.f_code.co_filename, frame.f_lineno
            send("failed", "exits", f"It ends the process, os._exit({status}){at(file, line)}.", file, line)
        leave(status)

    def leave_with_parent() -> None:
        jobs.read(1)
        leave(1)

    def say_that_it_goes_on() -> None:
        """Time that modules take on a busy machine, or our own search, is no hang: while modules come, or calls end, it goes on."""
        before: Any = None
        while True:
            now = len(sys.modules), WATCH.ended
            if now != before or (len(limits) == 1 and not WATCH.inside):
                send("alive")
            before = now
            time.sleep(1.0)

    threading.Thread(target=say_that_it_goes_on, daemon=True).start()
    threading.Thread(target=leave_with_parent, daemon=True).start()
    os._exit = leaving  # type: ignore[assignment]
    try:
        message: Any = ("done", work(job, send))
    except NotLoadedError as error:
        message = ("failed", error.code, f"{error}.", error.file, error.line)
    except BaseException as error:
        file, line = where(error)
        code = "exits" if isinstance(error, SystemExit) else "raises"
        message = ("failed", code, f"{job.name}: {said(error)}{at(file, line)}.", file, line)
    with suppress(Exception):
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)  # what C has printed
    send(*message)
    leave(0)


def work(job: Job, send: Send) -> Any:
    """The result of a job."""
    from arrayloss.check.run import target_position
    from arrayloss.frontend.loss import Loss

    from .objects import argument_names, constants, load, source

    if job.library in TRIED:
        os.environ.setdefault("KERAS_BACKEND", job.library)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # other processes need memory too

    def say(what: Any) -> None:
        send("say" if isinstance(what, str) else "partial", what)

    say(f"load {job.text}")
    function = load(job.text)
    libraries = [job.library] if job.library else libraries_of(function)
    for library in libraries:
        import_module(LIBRARIES[library].module)
    send("source", *source(function))
    say(f"call {job.name}")
    keywords = dict(job.keywords)
    if job.work == "tables":
        from .tables import numbers

        return numbers(function, libraries[0], say=say, **keywords)
    if job.work == "check" and isinstance(function, Loss) and not (job.library and keywords.get("reference")):
        return function.name
    if keywords.get("signature") is not None:
        at_last = keywords["signature"].count(",")
        position = target_position(keywords["signature"])
        keywords["signature"] = -1 if position == at_last else position
    first: Any = None
    for library in libraries:
        said: dict[str, Any] = {"name": job.name, "constants": constants(function), "arguments": argument_names(function), "say": say}
        found = _diagnosed(Watched(function), library, **said, **keywords)
        if found.verdict != "not_compared":
            return found
        first = first or found
    return first


def _diagnosed(
    function: Any, library: str, *, reference: str | None = None, options: Mapping[str, Any] | None = None, **keywords: Any
) -> Diagnosis:
    """A diagnosis; without a reference, that of the loss which the function is found to be."""
    from arrayloss.diagnose import diagnose, identify

    if reference is not None:
        return diagnose(function, library, reference=reference, options=options, **keywords)
    known = signature(identify).parameters
    found = identify(function, library, **{k: v for k, v in keywords.items() if k in known})
    if set(keywords) <= set(known) or found.verdict not in ("same", "digits"):
        return found
    return diagnose(function, library, reference=found.convention["loss"], options=found.convention["options"], **keywords)


def libraries_of(function: Any) -> list[str]:
    """The libraries that a function may be for: those that its module names; else those that it loads, and then any that is installed."""
    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    values = [*vars(module).values(), function] if module is not None else [function]
    kinds = [c for v in values for c in (v if isinstance(v, type) else type(v)).__mro__]
    names = [v.__name__ if isinstance(v, ModuleType) else str(getattr(v, "__module__", "")) for v in values] + [c.__module__ for c in kinds]
    roots = dict.fromkeys(name.partition(".")[0] for name in names)
    if "keras" in roots:
        return [sys.modules["keras"].backend.backend()]
    named = dict.fromkeys(ROOTS.get(r) or BUILT_ON.get(r) for r in roots)
    found = [name for name in LIBRARIES if name in named]
    if len(found) > 1 and "numpy" in found:  # beside another it makes constants, or reads results
        found = [*(name for name in found if name != "numpy"), "numpy"]
    if not found:
        found = [*(name for root, name in ROOTS.items() if root in sys.modules and name in ("torch", "jax")), *TRIED]
    return [name for name in dict.fromkeys(found) if not LIBRARIES[name].missing()]
