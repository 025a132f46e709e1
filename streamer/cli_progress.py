"""Progress of offline commands: a bar on a terminal, JSON lines for programs, nothing in a pipe."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.offline.progress import Progress

EXIT_INTERRUPTED = 130
TELL_SECONDS = 0.25
"""Least time between two JSON lines of what is done before the work can be counted."""


class Teller:
    """Tells how far a command is. `result` comes last."""

    def __init__(self, as_json: bool) -> None:
        # Here, not above: the service imports every command and shows no bar, and rich takes 3 MB.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._as_json = as_json
        self._told_at = -TELL_SECONDS
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=self.console, transient=True, disable=as_json or not self.console.is_terminal)
        self._task = self._bar.add_task("starting", total=None, rate="")

    def __call__(self, progress: Progress) -> None:
        """Tell one report on. All of them: `Meter` makes few, and none may be missing at the end."""
        if self._as_json:
            eta = progress.eta_seconds
            self._line(
                {
                    "done": progress.done,
                    "total": progress.total,
                    "fps": round(progress.fps, 2),
                    "eta_seconds": None if eta is None else round(eta, 1),
                    "stage": progress.stage,
                }
            )
            return
        from rich.markup import escape

        self._bar.update(
            self._task,
            description=escape(progress.stage),
            completed=progress.done,
            total=progress.total,
            rate=f"{progress.fps:.1f} fps" if progress.fps else "",
        )

    def stage(self, text: str) -> None:
        """Tell what is being done before anything can be counted; as JSON at most four times a second."""
        if self._as_json:
            now = time.monotonic()
            if now - self._told_at >= TELL_SECONDS:
                self._told_at = now
                self._line({"done": 0, "total": None, "fps": 0.0, "eta_seconds": None, "stage": text})
        else:
            from rich.markup import escape

            self._bar.update(self._task, description=escape(text))

    def result(self, summary: dict[str, Any]) -> None:
        """The end."""
        self._bar.stop()
        if self._as_json:
            self._line({"result": summary})

    @contextmanager
    def showing(self) -> Iterator[None]:
        """The bar is on the screen meanwhile."""
        with self._bar:
            yield

    @staticmethod
    def _line(said: dict[str, Any]) -> None:
        print(json.dumps(said, ensure_ascii=False), flush=True)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the work ends in order; a second Ctrl-C ends it at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    usual = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
