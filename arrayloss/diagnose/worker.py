"""One process a library, with a time limit: exits, hangs, crashes and prints of a function of the user's own are findings."""

from __future__ import annotations

import os
import pickle
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .places import OURS, at, innermost
from .result import Diagnosis, Reason
from .works import Job, Outcome

LIMIT_S = 60.0  # since the last message
LOADING_S = 60.0  # for modules and libraries, which take their time on a busy machine; never less than the limit
POLL_S, LAST_WORDS_S = 0.5, 5.0
MOST_BYTES, MOST_READ = 2**26, 2**16  # of prints
START = "import sys; sys.path[:0] = [p for p in sys.argv[1:2] if p not in sys.path]; from arrayloss.diagnose.works import serve; serve()"
FIXES = {
    "exits": "let the function return or raise; sys.exit belongs under if __name__ == '__main__'",
    "hangs": "run it by hand on 12 numbers; --time-limit SECONDS waits longer",
}
Say = Callable[[str], Any]


def run(text: str, library: str | None, work: str, limit_s: float = LIMIT_S, say: Say = lambda line: None, **keywords: Any) -> Outcome:
    """One job in a process of its own."""
    return run_all([Job(text, library, work, keywords)], limit_s, say)[0]


def run_all(jobs: Sequence[Job], limit_s: float = LIMIT_S, say: Say = lambda line: None) -> list[Outcome]:
    """Jobs in processes of their own, as many at once as there are cores. Ctrl-C ends them all; the outcomes say what is known."""
    messages: queue.Queue[tuple[int, Any]] = queue.Queue()
    outcomes, running = [Outcome() for _ in jobs], dict[int, _Process]()
    waiting = list(range(len(jobs)))
    try:
        while waiting or running:
            while waiting and len(running) < (os.cpu_count() or 1):
                i = waiting.pop(0)
                running[i] = _Process(jobs[i], outcomes[i], limit_s, i, messages)
            with suppress(queue.Empty):
                wait = min([POLL_S, *(p.deadline - time.monotonic() for p in running.values())])
                i, message = messages.get(timeout=max(0.02, wait))
                if i in running:
                    running[i].hear(message, say)
            for i, process in list(running.items()):
                if messages.empty():
                    process.look_after()
                if process.is_over:
                    del running[i]
    except KeyboardInterrupt:
        for process in running.values():
            process.stop()
        for i in waiting:
            outcomes[i] = Outcome(jobs[i].failure(), stopped=True)
            outcomes[i].result.notes.append("Stopped before it began.")
    finally:
        for process in running.values():
            process.end()
    for outcome in outcomes:
        lines = outcome.printed.strip().splitlines()
        if lines and isinstance(outcome.result, Diagnosis):
            outcome.result.notes.append(
                f"It printed {len(lines)} line{'s' * (len(lines) > 1)}: {lines[0][:60]!r}{', ...' * (len(lines) > 1)}"
            )
    return outcomes


class _Process:
    """The parent's side of one job."""

    def __init__(self, job: Job, outcome: Outcome, limit_s: float, index: int, messages: queue.Queue[tuple[int, Any]]) -> None:
        self.job, self.outcome, self.loaded_limit_s = job, outcome, limit_s
        self.started = time.monotonic()
        self.limit_s = max(limit_s, LOADING_S)
        self.deadline, self.doing, self.is_over, self.place = self.started + self.limit_s, "start", False, ("", 0)
        self.dead_at = float("inf")
        self.folder = Path(tempfile.mkdtemp(prefix="arrayloss-"))
        command = [sys.executable, "-u", "-P", "-c", START, str(Path(OURS).parent)]
        with open(self.folder / "err", "wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=os.name == "posix"
            )
        with suppress(OSError):  # it has died already
            assert self.process.stdin is not None
            pickle.dump((job, str(self.folder), self.limit_s, limit_s), self.process.stdin)
            self.process.stdin.flush()  # and stays open: where it closes, this process is gone
        threading.Thread(target=_listen, args=(self.process.stdout, index, messages), daemon=True).start()

    def hear(self, message: Any, say: Say) -> None:
        """One message, or None where there will be no more."""
        kind, *values = message or ("gone",)
        self.limit_s = self.loaded_limit_s if kind == "source" else self.limit_s
        self.deadline = time.monotonic() + self.limit_s
        if kind == "say":
            self.doing = values[0]
            say(f"{self.job.library or self.job.name}: {self.doing}")
        elif kind == "source":
            self.outcome.file, self.outcome.line = values
        elif kind == "partial":
            self.outcome.result = values[0]
        elif kind == "done":
            self.end()
            self.outcome.result = values[0]
        elif kind == "failed":
            self.end()
            self._fail(*values)
        elif kind == "gone":
            self._gone()

    def look_after(self) -> None:
        """What is seen without a message: the end of its time, a process that is gone, prints without end."""
        now = time.monotonic()
        if self.is_over:
            return
        if self.process.poll() is not None:  # its last words may still be on their way
            self.dead_at = min(self.dead_at, now)
            return self._gone() if now > self.dead_at + LAST_WORDS_S else None
        is_late = now >= self.deadline
        written = sum(f.stat().st_size for f in self.folder.glob("*"))
        if not is_late and written < MOST_BYTES:
            return
        self.end()
        text = f"Nothing came back for {self.limit_s:g} s" if is_late else "It prints without end"
        self._fail("hangs", f"{text}, at the step {self.doing!r}{at(*self.place)}.", *self.place)

    def _gone(self) -> None:
        """The process is no more, and has not said why."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        status = self.process.poll()
        self.end()
        if status is not None and 0 <= status < 256:
            code, text = "exits", f"It ends the process with status {status}, at the step {self.doing!r}"
        else:
            names = {-s.value: f"{s.name} ({signal.strsignal(s)})" for s in signal.Signals}
            code, text = "dies", f"Its process dies of {names.get(status or 0, f'status {status}')}, at the step {self.doing!r}"
        self._fail(code, f"{text}{at(*self.place)}.", *self.place)

    def _fail(self, code: str, text: str, file: str, line: int) -> None:
        """A failure is what came of it."""
        self.outcome.result, self.outcome.failed = self.job.failure(Reason(code, text, fix=FIXES.get(code, ""))), True
        if file:
            self.outcome.file, self.outcome.line = file, line

    def stop(self) -> None:
        """By Ctrl-C: a result that has come stays."""
        self.outcome.stopped = True
        self.outcome.result = self.outcome.result or self.job.failure()
        if isinstance(self.outcome.result, Diagnosis):
            self.outcome.result.notes.append(f"Stopped at the step {self.doing!r}.")

    def end(self) -> None:
        """The process, and those that it has started, are ended and waited for; what they wrote is read."""
        if self.is_over:
            return
        self.is_over, self.outcome.seconds = True, time.monotonic() - self.started
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL) if os.name == "posix" else self.process.kill()
        self.process.wait()
        with suppress(OSError, ValueError):
            self.process.stdin and self.process.stdin.close()  # the thread that reads closes the other pipe
        self.outcome.printed, crash = (self._read(name) for name in ("out", "crash"))
        frames = re.findall(r'File "(.+)", line (\d+)', crash)
        self.place = innermost([(file, int(line)) for file, line in reversed(frames)])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> str:
        path = self.folder / name
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            return file.read(MOST_READ).decode(errors="replace")


def _listen(stream: Any, index: int, messages: queue.Queue[tuple[int, Any]]) -> None:
    """Messages of a process until it says nothing more."""
    with suppress(Exception), stream:
        while True:
            messages.put((index, pickle.load(stream)))
    messages.put((index, None))
