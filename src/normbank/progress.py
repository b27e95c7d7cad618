"""What goes to standard error: notes, the progress of long work as a bar (elsewhere a line now and then)."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_BAR_EVERY, _LINE_EVERY = 0.2, 30.0  # seconds


def printable(name: str) -> str:
    """A file name on one line, whatever is in it: quoted and escaped where it has to be."""
    return name if name.isprintable() else ascii(name)


def note(text: str, end: str = "\n") -> None:
    """Print on standard error, where there is one: that it is closed or full is no reason for work to stop."""
    if sys.stderr is None:  # what `print` would take for standard output
        return
    with contextlib.suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


class Progress:
    """Shows how far `what` has come out of `total` (0: not known yet); a context manager.

    Writes to standard error, or nothing if quiet; and nothing before the first `update`, so that a question can be
    asked until then.
    """

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        self.what, self.total, self.quiet = what, total, quiet
        self._last = self._start = time.monotonic()
        self._done_at_start: int | None = None
        self._on_terminal = False
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        self._on_terminal = not self.quiet and sys.stderr is not None and sys.stderr.isatty()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def due(self) -> bool:
        """Whether enough time has passed to show something again."""
        return not self.quiet and time.monotonic() - self._last >= (_BAR_EVERY if self._on_terminal else _LINE_EVERY)

    def update(self, done: int, beside: str = "") -> None:
        """`done` of `total` are done; `beside` is shown beside it."""
        if self.quiet:
            return
        if self._done_at_start is None:
            self._done_at_start, self._start = done, time.monotonic()
        if self._on_terminal:
            with contextlib.suppress(OSError):  # the terminal has gone
                self._draw(done, beside)
        elif self.due():
            of_total = f"/{self.total}" if self.total else ""
            note(f"{self.what} {done}{of_total}  {beside}{self._time_left(done)}")
        else:
            return
        self._last = time.monotonic()

    def _draw(self, done: int, beside: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total or None, note="")
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=self.total or None, note=beside)

    def update_total(self, done: int, total: int | None) -> None:
        """`done` of a `total` that is only known on the way, in the same unit."""
        if total is not None and total != self.total:
            self.total, self._done_at_start = total, None
        self.update(done)

    def _time_left(self, done: int) -> str:
        advanced = done - (self._done_at_start or 0)
        if advanced <= 0 or self.total < done:
            return ""
        left = (time.monotonic() - self._start) / advanced * (self.total - done)
        return f"  {left / 60:.0f} min left" if left >= 90 else f"  {left:.0f} s left"
