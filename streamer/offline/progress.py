"""How far a long piece of work has come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

TELL_SECONDS = 0.25
"""Least time between two reports."""
_WINDOW_SECONDS = 10.0
"""The rate is that of so much of the past: a file gets harder and easier as it goes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One report."""

    done: int
    """Frames, or photos."""
    total: int | None
    """None: the file does not say how many there are."""
    fps: float
    """A second, lately."""
    eta_seconds: float | None
    """Until the end, at this rate; None: unknown."""
    stage: str
    """What is being done ("loading models", "segmenting")."""


OnProgress = Callable[[Progress], None]


class Meter:
    """Counts, and reports at most four times a second. Used by one thread."""

    def __init__(self, on_progress: OnProgress | None, total: int | None = None) -> None:
        self._on_progress = on_progress
        self.total = total
        self.done = 0
        self._told_at = 0.0
        self._marks: deque[tuple[float, int]] = deque()

    def stage(self, text: str) -> None:
        """Report at once that something else is being done now."""
        self._stage = text
        self._marks.clear()
        self._tell(time.monotonic())

    def step(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        now = time.monotonic()
        if now - self._told_at >= TELL_SECONDS:
            self._tell(now)

    def finish(self) -> None:
        """Report the end, whatever was reported a moment ago."""
        self.total = self.done
        self._tell(time.monotonic())

    _stage = ""

    def _tell(self, now: float) -> None:
        self._told_at = now
        self._marks.append((now, self.done))
        while now - self._marks[0][0] > _WINDOW_SECONDS and len(self._marks) > 2:
            self._marks.popleft()
        if self._on_progress is None:
            return
        since, before = self._marks[0]
        fps = (self.done - before) / (now - since) if now > since else 0.0
        left = None if self.total is None or fps <= 0 else max(0.0, (self.total - self.done) / fps)
        self._on_progress(Progress(self.done, self.total, fps, left, self._stage))
