"""Time stamps as sources send them, made into a clock that frames can be paced and recorded by."""

from __future__ import annotations

from collections import deque
from statistics import median

MAX_STEP_SECONDS = 0.95
"""Frames of one stream are never further apart than this (the contract of `Frame.pts_seconds` is one second)."""
_JUMP_SECONDS = 10.0
"""A longer gap is no pause but a broken or restarted clock."""
_WINDOW = 31
"""Steps that the usual step is the median of."""
_DEFAULT_FPS = 25.0


class Timeline:
    """Maps presentation times of one source to a clock that starts at 0 and only rises, over loops and reconnects.

    A jump back, a missing time stamp, a gap over ten seconds and a restart all count as one usual frame duration. Used
    by one thread; `fps` may be read by any.
    """

    def __init__(self, max_step_seconds: float | None = None) -> None:
        """With `max_step_seconds`, longer pauses are shortened to it."""
        self._max_step = max_step_seconds
        self._steps: deque[float] = deque(maxlen=_WINDOW)
        self._source_pts: float | None = None
        self._pts: float | None = None
        self._nominal: float | None = None
        self.fps: float | None = None
        """Frames per second as measured, before that as announced; None: unknown."""

    def announce(self, fps: float | None) -> None:
        """The frame rate that the container states. Used until it is measured; nonsense is ignored."""
        if fps is not None and 0.1 <= fps <= 240:
            self._nominal = 1 / fps
            if not self._steps:
                self.fps = fps

    def restart(self) -> None:
        """The next time stamp is on a new clock (a reconnect, a rewind)."""
        self._source_pts = None

    def step(self, source_pts: float | None) -> float:
        """Seconds on this clock of the next frame, whose own time stamp (seconds, any origin) is `source_pts`."""
        if self._pts is None:
            self._pts = 0.0
        else:
            self._pts += self._advance(source_pts)
        if source_pts is not None:
            self._source_pts = source_pts
        elif self._source_pts is not None:
            self._source_pts += self._usual()
        return self._pts

    def _advance(self, source_pts: float | None) -> float:
        if source_pts is None or self._source_pts is None:
            return self._usual()
        step = source_pts - self._source_pts
        if not 0 < step <= _JUMP_SECONDS:
            return self._usual()
        self._steps.append(step)
        self.fps = 1 / median(self._steps)
        return step if self._max_step is None else min(step, self._max_step)

    def _usual(self) -> float:
        step = median(self._steps) if self._steps else self._nominal or 1 / _DEFAULT_FPS
        return min(step, MAX_STEP_SECONDS)


class Lateness:
    """Tells whether frames of a live source are decoded later and later after they were made.

    A burst after a network stall is late too, but is caught up with in no time: only lateness that lasts counts. The
    reference drifts, since a camera's clock and this machine's never agree.
    """

    LIMIT_SECONDS = 1.0
    PATIENCE_SECONDS = 2.0
    _DRIFT = 0.002
    """Seconds a second that the clocks may run apart without being taken for lateness."""

    def __init__(self) -> None:
        self._least: float | None = None
        self._checked_at = 0.0
        self._late_since: float | None = None

    def step(self, source_pts: float, now: float) -> bool:
        """Whether a packet of `source_pts` seconds handled at `now` (monotonic) comes too late to be worth decoding."""
        offset = now - source_pts
        if self._least is None:
            self._least = offset
        else:
            self._least = min(offset, self._least + (now - self._checked_at) * self._DRIFT)
        self._checked_at = now
        if offset - self._least <= self.LIMIT_SECONDS:
            self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = now
        return now - self._late_since > self.PATIENCE_SECONDS
