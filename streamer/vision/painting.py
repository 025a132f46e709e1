"""What a frame's result says of the people in it: the label map and the tracks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from streamer.frames import Frame
from streamer.tracks import Target, Track
from streamer.vision.engines.base import MaskEngine
from streamer.vision.labels import LabelPainter, marked
from streamer.vision.naming import Naming
from streamer.vision.prompts import union
from streamer.vision.smoothing import Smoother
from streamer.vision.tracking import Person, clip_box


class Painting:
    """Paints label maps of one stream: people, then what is wanted of them, then everybody else. Not thread-safe."""

    def __init__(self, engine: MaskEngine, smoother: Smoother) -> None:
        self._engine = engine
        self._smoother = smoother
        self._painter = LabelPainter()

    def label_map(
        self,
        people: Iterable[Person],
        wanted: Collection[int],
        target: Target,
        phrases: Sequence[str],
        frame: Frame,
    ) -> np.ndarray | None:
        """(height, width) uint8 as `FrameResult.label_map`; None where there is nothing in it.

        Args:
            wanted: ids of those who are the target; only of them objects are sought.
            phrases: the object prompts.
        """
        painter = self._painter
        painter.begin(frame.width, frame.height)
        shown = [person for person in people if person.region is not None]
        # On equal logits the later one keeps what the earlier one took: the target is painted first.
        for person in sorted(shown, key=lambda person: person.id not in wanted):
            if person.region is not None:
                painter.paint(person.region, person.label, person.fresh)
        if phrases:
            for person in shown:
                self._paint_part(person, phrases if person.id in wanted else ())
        if target.everybody:
            for instance in self._engine.detect(["person"]):
                painter.paint_people(instance.mask)
        labels = painter.finish()
        return labels if shown or target.everybody else None

    def _paint_part(self, person: Person, phrases: Sequence[str]) -> None:
        if not phrases:
            person.part = None
            return
        if person.fresh:
            found = [self._engine.part(person.id, phrase) for phrase in phrases]
            part = union([region for region in found if region is not None])
            person.part = None if part is None else self._smoother.step((person.id, "part"), part)
        if person.part is not None:
            self._painter.paint_part(person.part, person.label)


def told(person: Person) -> bool:
    """A track is told of once it was seen: with a mask, or with a face."""
    return person.region is not None or person.lost_since is not None or person.face_missed == 0


def with_pixels(people: Iterable[Person], label_map: np.ndarray | None) -> set[int]:
    """Labels of the people who have pixels in the map: the mask of one may lie under another's."""
    painted = [person.label for person in people if person.region is not None]
    return set() if label_map is None else marked(label_map, painted)


def track_of(
    person: Person, said: Naming | None, target: Target, frame: Frame, *, has_mask: bool, undecided: bool = False
) -> Track:
    """A person as the frame's result tells of them.

    Args:
        has_mask: the label map has pixels of theirs.
        undecided: they have no name, and another look may bring one.
    """
    # Without a mask the face of the newest look is all that is known, on the frames up to the next one too.
    face_seen = person.face_known or (person.region is None and person.visible)
    face = clip_box(person.face_xyxy, frame.width, frame.height) if face_seen else None
    return Track(
        id=person.id,
        name=said.name if said else None,
        similarity=said.similarity if said else None,
        state="tracked" if has_mask else "lost",
        box_xyxy=clip_box(person.box_xyxy, frame.width, frame.height),
        face_xyxy=face,
        label=person.label,
        object_prompt=target.object if person.part is not None and has_mask else None,
        undecided=undecided,
    )
