"""Which line of a sidecar belongs to which picture of a clip: by their times, whatever came of either."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from streamer.offline import lines
from streamer.offline.clip import ClipFrame
from streamer.offline.clock import PTS_RATE

_NEAR_SECONDS = 0.002
"""Times in a sidecar are rounded, and a file's may be to the millisecond; frames are further apart than this."""


class Pairing:
    """Gives each picture its line. Both come in order, and of each some may be missing.

    Lines of a part of a file say when their picture is shown in it. Others tell the time of another clock (a stream's,
    in a recording), and are matched by the time since the first line: that is the first picture's. Nothing in the times
    of a steady rate would tell that lines are missing before it, so it must be borne out in the end: see `is_sure`.
    """

    def __init__(self, said: Iterator[dict[str, Any]], of_part: bool) -> None:
        """`said`: lines as `lines.Sidecar` gives them; `of_part`: they have the input's times."""
        self._said = said
        self._of_part = of_part
        self._ticks = 0
        self._first_ticks: int | None = None
        self._first_pts: int | None = None
        self._begins = False
        self.pictures = 0
        """So far."""
        self.matched = 0
        """Lines that belonged to a picture."""
        self._line = next(said, None)
        self._at = self._time()

    @property
    def over(self) -> bool:
        """Every line had its picture, or passed without one."""
        return self._line is None

    @property
    def is_sure(self) -> bool:
        """After the last picture: the first line is the first picture's indeed. The first frame of all is, and so is
        any if there are as many lines as pictures."""
        return self._of_part or self._begins or self.pictures == self.matched

    def step(self, picture: ClipFrame) -> dict[str, Any] | None:
        """The line of the next picture; None: it has none."""
        if self._first_pts is None:
            self._first_pts = picture.pts
        shown = picture.source_seconds if self._of_part else (picture.pts - self._first_pts) / PTS_RATE
        self.pictures += 1
        while self._line is not None and self._at < shown - _NEAR_SECONDS:
            self._next()
        if self._line is None or self._at > shown + _NEAR_SECONDS:
            return None
        line = self._line
        self.matched += 1
        self._next()
        return line

    def _next(self) -> None:
        self._line = next(self._said, None)
        self._at = self._time()

    def _time(self) -> float:
        """When the line's picture is shown, in seconds as `step` counts them."""
        if self._line is None:
            return math.inf
        if self._of_part:
            return float(self._line.get(lines.SOURCE_PTS, -math.inf))
        ticks = round(self._line["pts"] * PTS_RATE)
        if self._first_ticks is None:
            self._first_ticks = self._ticks = ticks
            self._begins = self._line["frame"] == 0
        else:
            # As the encoder does: a picture that is encoded once more comes a tick after itself.
            self._ticks = max(ticks, self._ticks + 1)
        return (self._ticks - self._first_ticks) / PTS_RATE
