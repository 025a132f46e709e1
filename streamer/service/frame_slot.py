"""Where a source leaves its newest frame for the stream, and which frame vision had better take."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamer.channels import LatestSlot
from streamer.frames import Frame
from streamer.service.stats import RateMeter

PATIENCE = 1 / 8
"""Of the time that vision takes for a frame: so long it may wait for a fresher one."""
LATE = 1 / 2
"""Of the time between two frames: one that is so late is not waited for any more. To give up on one that is only a
little late would be the worst of both: the time is lost, and the old frame taken."""
SLOW_FRAMES = 8
"""Vision's time is averaged over about so many frames: a look for faces now and then does not make it slow."""


class FrameSlot(LatestSlot[Frame]):
    """The newest frame of a source; knows the rate at which they come. Bound: 1. Policy: newest wins."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.rate = RateMeter()
        self._clock = clock
        self._put_at = 0.0

    def put(self, item: Frame) -> None:
        self._put_at = self._clock()
        self.rate.tick(self._put_at)
        super().put(item)

    def next_due(self) -> tuple[float, float]:
        """Seconds until the next frame should come (less than 0: it is late), and seconds between two frames."""
        now = self._clock()
        gap = 1 / max(self.rate.rate(now), 1e-6)
        return self._put_at + gap - now, gap


class Patience:
    """Whether vision, being free, takes the frame that is there or the next one.

    Vision that is slower than the source finds a frame waiting that is half a frame time old, on average, and shows it
    so much later. Where the next frame is due within `PATIENCE` of the time that one takes, that much of the rate is
    given up for it. Vision that keeps up takes every frame.
    """

    def __init__(self, slot: FrameSlot) -> None:
        self._slot = slot
        self._busy_seconds = 0.0

    def took(self, seconds: float) -> None:
        """Vision had a frame for `seconds`."""
        self._busy_seconds += (seconds - self._busy_seconds) / SLOW_FRAMES

    def seconds(self) -> float:
        """How long to leave a frame that waits; 0: take it."""
        due, gap = self._slot.next_due()
        most = PATIENCE * self._busy_seconds
        return max(due + LATE * gap, 0.0) if self._busy_seconds > gap and due <= most else 0.0
