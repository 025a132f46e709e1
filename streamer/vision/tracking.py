"""People over time: which face belongs to which track, who is lost, who is gone. numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.tracks import MAX_TRACKS, Box
from streamer.vision.engines.base import Region
from streamer.vision.thumbnails import Thumbnail

LOST_SECONDS = 1.0
"""A track without mask and face is given up after this time."""
REACH = 0.9
"""Face heights that a face may lie from where its track says it is."""
LOST_REACH = 1.6
"""The same for a track that has no mask now."""
SIZE_RATIO = 1.8
"""Ratio of face heights up to which two faces can be one person's."""
SAME_PLACE = 0.5
"""Overlap of two tracks' faces (of the smaller one) from which they follow one person."""
NEAR = 1.3
"""Face heights between two faces below which one may soon hide the other."""


class Located(Protocol):
    """Anything with a face box."""

    @property
    def box_xyxy(self) -> Box: ...


@dataclass(slots=True)
class Person:
    """One track. Its region and face are those of the newest frame on which they were known."""

    id: int
    """For ever."""
    label: int
    """1..63, free again when the track is gone."""
    face_xyxy: Box
    """Detected or carried along, pixels."""
    face_at: float
    """pts of the newest detected face."""
    born_at: float
    region: Region | None = None
    """As shown: smoothed."""
    part: Region | None = None
    """The object, as shown."""
    fresh: bool = False
    """`region` is of the current frame."""
    face_known: bool = True
    """`face_xyxy` is of the current frame."""
    scene: Thumbnail | None = None
    """The picture on which the face was detected last."""
    face_missed: int = 0
    """Looks for faces in a row that did not find this person's."""
    lost_since: float | None = None
    """pts since when there is no mask; None: there is one."""
    failures: int = 0
    """Frames in a row on which the engine found no mask."""
    box_xyxy: Box = (0.0, 0.0, 0.0, 0.0)
    """The newest mask's, or a guess from the face."""

    @property
    def visible(self) -> bool:
        """Seen now: a mask of this frame or a face in the newest look."""
        return self.region is not None or self.face_missed == 0

    def found(self, face_xyxy: Box, pts_seconds: float, scene: Thumbnail | None) -> None:
        """The face was detected on this frame, whose thumbnail is `scene`."""
        self.face_xyxy, self.face_at, self.scene = face_xyxy, pts_seconds, scene
        self.face_known, self.face_missed = True, 0
        if self.region is None:
            self.box_xyxy = person_box(face_xyxy)


class People:
    """The tracks of one stream. Ids rise for ever; labels are reused."""

    def __init__(self, limit: int, first_id: int = 1) -> None:
        """`limit`: tracks at once, 1..63."""
        self._limit = min(limit, MAX_TRACKS)
        self._people: dict[int, Person] = {}
        self._next_id = first_id

    def __iter__(self) -> Iterator[Person]:
        return iter(list(self._people.values()))

    def __len__(self) -> int:
        return len(self._people)

    @property
    def full(self) -> bool:
        """No further track can be added."""
        return len(self._people) >= self._limit

    def add(self, face_xyxy: Box, pts_seconds: float) -> Person:
        """A new track. The caller has made room."""
        used = {person.label for person in self._people.values()}
        label = next(n for n in range(1, MAX_TRACKS + 1) if n not in used)
        person = Person(self._next_id, label, face_xyxy, pts_seconds, pts_seconds)
        person.box_xyxy = person_box(face_xyxy)
        self._next_id += 1
        self._people[person.id] = person
        return person

    def remove(self, person: Person) -> None:
        """End a track."""
        self._people.pop(person.id, None)

    def clear(self) -> None:
        """End all tracks."""
        self._people.clear()

    def match(self, faces: Sequence[Located]) -> dict[int, Person]:
        """Faces (by position in `faces`) that belong to a track, one to one; nearest pairs first."""
        pairs = []
        for position, face in enumerate(faces):
            for person in self._people.values():
                cost = distance(face.box_xyxy, person.face_xyxy)
                reach = REACH if person.fresh and person.region is not None else LOST_REACH
                if cost <= reach and size_ratio(face.box_xyxy, person.face_xyxy) <= SIZE_RATIO:
                    pairs.append((cost, position, person))
        matched: dict[int, Person] = {}
        taken: set[int] = set()
        for _, position, person in sorted(pairs, key=lambda pair: pair[0]):
            if position not in matched and person.id not in taken:
                matched[position] = person
                taken.add(person.id)
        return matched

    def expired(self, pts_seconds: float) -> list[Person]:
        """Tracks that have had neither a mask nor a face for too long."""
        return [
            person
            for person in self._people.values()
            if person.lost_since is not None
            and pts_seconds - max(person.lost_since, person.face_at) > LOST_SECONDS
            and person.face_missed > 0
        ]

    def doubles(self) -> list[tuple[Person, Person]]:
        """Of each two tracks on one place, the one whose face was seen longer ago, and the other one."""
        found = []
        people = [person for person in self._people.values() if person.face_known]
        for index, a in enumerate(people):
            for b in people[index + 1 :]:
                if overlap(a.face_xyxy, b.face_xyxy) > SAME_PLACE:
                    older, newer = sorted((a, b), key=lambda person: (person.face_at, -person.born_at))
                    found.append((older, newer))
        return found

    def crowded(self) -> bool:
        """Two faces are so near that one may hide the other."""
        # Of the people beside the target one in turn is followed on a frame: the others are where they were just now.
        people = [person for person in self._people.values() if person.face_known or person.region is not None]
        return any(
            distance(a.face_xyxy, b.face_xyxy) < NEAR for index, a in enumerate(people) for b in people[index + 1 :]
        )


def distance(a: Box, b: Box) -> float:
    """Between the centres of two face boxes, in heights of the larger one."""
    height = max(a[3] - a[1], b[3] - b[1], 1e-6)
    return math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2) / height


def size_ratio(a: Box, b: Box) -> float:
    """Larger height over smaller height, >= 1."""
    heights = sorted((max(a[3] - a[1], 1e-6), max(b[3] - b[1], 1e-6)))
    return heights[1] / heights[0]


def overlap(a: Box, b: Box) -> float:
    """Intersection over the smaller box's area, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / max(smaller, 1e-9)


def person_box(face: Box) -> Box:
    """About where the person of a face is: 3 face widths by 7 face heights."""
    x0, y0, x1, y1 = face
    x, width, height = (x0 + x1) / 2, x1 - x0, y1 - y0
    return x - 1.5 * width, y0 - 0.5 * height, x + 1.5 * width, y0 + 6.5 * height


def clip_box(box: Box, width: int, height: int) -> Box:
    """`box` cut off at the picture's edges."""
    x0, y0, x1, y1 = box
    left, top = min(max(x0, 0.0), float(width)), min(max(y0, 0.0), float(height))
    return left, top, max(min(x1, float(width)), left), max(min(y1, float(height)), top)
