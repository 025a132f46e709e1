"""Small decisions about faces and tracks on one look."""

from __future__ import annotations

from streamer.tracks import Box
from streamer.vision.tracking import Person, overlap


class Budget:
    """So many more of something on this frame."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self) -> bool:
        """Whether there was one left."""
        self._left -= 1
        return self._left >= 0


def unmatched(person: Person | None, alive: set[int]) -> bool:
    """Whether a face has no track (any more)."""
    return person is None or person.id not in alive


def shows(person: Person, face_xyxy: Box) -> bool:
    """Whether the track's region is of this frame and of the person with this face."""
    region = person.region
    if region is None or not person.fresh:
        return False
    return region.face_xyxy is None or overlap(region.face_xyxy, face_xyxy) > 0.3
