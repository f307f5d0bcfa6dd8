"""Progress of long work: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from stillwatch.siege.watcher import Watcher

#: Plain lines are printed each time this share of a stage is done.
PLAIN_STEP = 0.25


class BarWatcher:
    """Bars in a terminal, one a stage; a stage is finished when another begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage."""
        self.finish()
        self._tasks[name] = self._progress.add_task(name, total=total, note="")

    def advance(self, name: str, done: int, note: str = "") -> None:
        """Move the stage's bar."""
        if name in self._tasks:
            self._progress.update(self._tasks[name], completed=done, note=note)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, highlight=False)

    def finish(self) -> None:
        """Fill every bar: the work is done."""
        for task in self._progress.tasks:
            if not task.finished:
                total = task.total if task.total is not None else 1
                self._progress.update(task.id, total=total, completed=total)


class PlainWatcher:
    """Plain lines on standard error, for logs and pipes."""

    def __init__(self) -> None:
        self._totals: dict[str, int | None] = {}
        self._printed: dict[str, float] = {}

    def stage(self, name: str, total: int | None = None) -> None:
        """Print the stage's name."""
        self._totals[name] = total
        self._printed[name] = 0.0
        self.say(name)

    def advance(self, name: str, done: int, note: str = "") -> None:
        """Print a line at each quarter of the stage."""
        total = self._totals.get(name)
        if not total:
            return
        share = done / total
        if share - self._printed.get(name, 0.0) >= PLAIN_STEP or done == total:
            if self._printed.get(name, 0.0) < share:
                self.say(f"{name}: {done} of {total} {note}".rstrip())
            self._printed[name] = share

    def say(self, line: str) -> None:
        """Print a line."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Watcher]:
    """Give the watcher that fits where standard error goes.

    Args:
        quiet: plain lines even in a terminal, for `--json`.

    Yields:
        The watcher; bars vanish when the work ends, lines stay.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield PlainWatcher()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        watcher = BarWatcher(progress)
        yield watcher
        watcher.finish()
