"""When the pictures of a file are shown: times as they come, made to rise."""

from __future__ import annotations

PTS_RATE = 90_000
"""Per second: the clock of everything that is written."""


class Clock:
    """Times of pictures as they come, made to rise: missing ones and jumps back count as one usual step."""

    def __init__(self, fps: float) -> None:
        self._usual = 1 / fps
        self._last: float | None = None
        self._ticks = -1
        self.shift = 0.0
        """Seconds by which the input's clock was corrected; sound goes along."""

    def step(self, seconds: float | None) -> float:
        """When this picture is shown, on the input's clock, corrected."""
        last = self._last
        if seconds is None:
            seconds = 0.0 if last is None else last + self._usual
        else:
            seconds += self.shift
            if last is not None and seconds <= last:
                # Recordings put one after the other, or a damaged time stamp.
                wanted = last + self._usual
                if last - seconds > 1.0:
                    self.shift += wanted - seconds
                seconds = wanted
        self._last = seconds
        return seconds

    def ticks(self, seconds: float) -> int:
        """`seconds` in 1/90000 s, rising strictly."""
        self._ticks = max(round(seconds * PTS_RATE), self._ticks + 1)
        return self._ticks
