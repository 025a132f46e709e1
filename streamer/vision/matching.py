"""Small decisions about faces and tracks on one look."""

from __future__ import annotations

from streamer.tracks import Box
from streamer.vision.thumbnails import Thumbnail, correlation
from streamer.vision.tracking import Person, overlap

SAME_SCENE = 0.45
"""Correlation of two pictures from which they show one scene, though somebody in front may fill a quarter of it."""


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


def out_of_scene(person: Person, now: Thumbnail | None) -> bool:
    """Whether a face that this look did not find was seen last in another scene than that of `now`.

    A head that turns leaves the rest of the picture as it was. Where that has gone as well, as in a dissolve too slow
    to be noticed, nothing is left to say that the mask still holds the same person.
    """
    if person.face_missed == 0 or person.scene is None or now is None:
        return False
    return correlation(person.scene, now) < SAME_SCENE
