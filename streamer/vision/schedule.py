"""When to look for faces: at once in a new shot, soon while anything is open, now and then while all is settled."""

from __future__ import annotations

from streamer.vision.naming import Namer
from streamer.vision.tracking import People, Person

SOON = 3
"""Frames between two looks for faces while a name is undecided or a track is lost."""
UNSURE = 5
"""Frames between two looks while somebody with a name has no mask that is followed, or while the name is in doubt."""
EMPTY = 5
"""Frames between two looks while nobody is there, for the first `EMPTY_LOOKS` of a shot."""
EMPTY_LOOKS = 6
LOOK_SECONDS = 0.7
"""Looks are no further apart than this at any frame rate, so that a name is there within a second of a face."""
SETTLED_LOOKS = 6
"""Looks after which an unknown track is compared only now and then."""
SETTLED_EVERY = 3
STRETCH = 4 / 3
"""Times as many frames between two looks while everybody has had a name for `SETTLED_LOOKS` looks and is followed."""
HOPELESS = 3
"""Frames in a row without a mask after which a track is tried again only when its face is seen."""


class LookSchedule:
    """Of one stream. Told of every look and of the end of every frame."""

    def __init__(self, every: int) -> None:
        """`every`: frames between two looks while nothing asks for one earlier."""
        self._every = every
        self._step = 0
        self._looked_step: int | None = None
        self._looked_at = 0.0
        self._empty_looks = 0
        self._doubtful = False

    def due(self, people: People, namer: Namer, pts_seconds: float) -> bool:
        """Whether to look for faces on this frame."""
        if self._looked_step is None:
            return True
        since = self._step - self._looked_step
        every = STRETCH * self._every if self._stable(people, namer) else self._every
        if since >= every or pts_seconds - self._looked_at >= LOOK_SECONDS:
            return True
        if not len(people):
            return since >= EMPTY and self._empty_looks < EMPTY_LOOKS
        if since >= UNSURE and any(_unsure(person, namer) for person in people):
            return True
        return since >= SOON and (
            self._doubtful
            or people.crowded()
            or any(
                namer.undecided(person.id) or 0 < person.failures < HOPELESS
                for person in people
                if person.face_missed < HOPELESS
            )
        )

    def _stable(self, people: People, namer: Namer) -> bool:
        return len(people) > 0 and all(
            person.region is not None
            and namer.named(person.id)
            and namer.looks(person.id) >= SETTLED_LOOKS
            and not namer.undecided(person.id)
            for person in people
        )

    def compares(self, track: int, namer: Namer) -> bool:
        """Whether the face of this track is worth a comparison in the present look."""
        if namer.looks(track) < SETTLED_LOOKS or namer.undecided(track) or namer.named(track):
            return True
        return (self._step // max(self._every, 1) + track) % SETTLED_EVERY == 0

    def looked(self, pts_seconds: float) -> None:
        """A look begins on this frame."""
        self._looked_step, self._looked_at = self._step, pts_seconds
        self._doubtful = False

    def doubt(self) -> None:
        """Something came between: look soon."""
        self._doubtful = True

    def found(self, anybody: bool) -> None:
        """How the look ended."""
        self._empty_looks = 0 if anybody else self._empty_looks + 1

    def end_frame(self) -> None:
        """The frame is done."""
        self._step += 1

    def new_shot(self) -> None:
        """Look on the next frame."""
        self._looked_step = None
        self._empty_looks = 0


def _unsure(person: Person, namer: Namer) -> bool:
    """Somebody with a name who is not followed, or whose name is in doubt."""
    return namer.named(person.id) and (person.region is None or namer.undecided(person.id))
