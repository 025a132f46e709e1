"""Names given a moment late, written back to where the person came into the picture.

A live stream shows a frame before anybody can be sure who is on it; a file can wait. Without this, the first frames of
each shot would show the member without a name, and style `hide` would show them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from streamer.frames import Frame
from streamer.tracks import FrameResult, Track

SECONDS = 1.0
"""Names are due within this time of a clear face."""
_MAX_FRAMES = 60
_MAX_BYTES = 150_000_000
"""Of frames and label maps that wait: flat memory at any size."""

Seen = tuple[Frame, FrameResult]


class Hindsight:
    """Of one file. Holds back frames for about a second."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        """Of the pictures."""
        most = max(2, min(_MAX_FRAMES, _MAX_BYTES // (width * height * 5 // 2)))
        self.frames = max(1, min(most, round(SECONDS * fps)))
        """How many frames are held back."""
        self._waiting: deque[Seen] = deque()
        self._names: dict[int, str | None] = {}
        """Of the tracks on the newest frame."""
        self._undecided: set[int] = set()
        """Tracks on the newest frame that may still get a name."""
        self._named: set[int] = set()
        """Tracks that had a name once: in doubt they may have been who they were."""

    def step(self, frame: Frame, result: FrameResult) -> Iterator[Seen]:
        """One more; gives the frames that have waited long enough."""
        for track in result.tracks:
            if track.name is not None and self._names.get(track.id) != track.name:
                self._write_back(track)
            elif not track.undecided and track.id in self._undecided - self._named:
                self._settle(track)
        self._names = {track.id: track.name for track in result.tracks}
        self._named |= {track.id for track in result.tracks if track.name is not None}
        self._undecided = {track.id for track in result.tracks if track.undecided}
        self._waiting.append((frame, result))
        while len(self._waiting) > self.frames:
            yield self._waiting.popleft()

    def finish(self) -> Iterator[Seen]:
        """The frames that still wait."""
        while self._waiting:
            yield self._waiting.popleft()

    def _write_back(self, named: Track) -> None:
        """Give the track its name on the frames that wait, back to where it began, or had another name."""
        for place in range(len(self._waiting) - 1, -1, -1):
            frame, result = self._waiting[place]
            before = next((track for track in result.tracks if track.id == named.id), None)
            taken = any(track.name == named.name for track in result.tracks)
            if before is None or before.name is not None or taken:
                return
            self._waiting[place] = frame, _with(result, replace(before, name=named.name, undecided=False))

    def _settle(self, nobody: Track) -> None:
        """The track has turned out to be no member: it was none on the frames that wait either."""
        for place in range(len(self._waiting) - 1, -1, -1):
            frame, result = self._waiting[place]
            before = next((track for track in result.tracks if track.id == nobody.id), None)
            if before is None or not before.undecided:
                return
            self._waiting[place] = frame, _with(result, replace(before, undecided=False))


def _with(result: FrameResult, changed: Track) -> FrameResult:
    """`result` with `changed` in the place of the track of its id."""
    return replace(result, tracks=tuple(changed if track.id == changed.id else track for track in result.tracks))
