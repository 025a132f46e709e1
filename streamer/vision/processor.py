"""One frame in, one result out: decide, propagate, look for faces, name, member AND object, smooth, paint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from streamer.frames import Frame, planes
from streamer.tracks import FrameResult, Target
from streamer.vision.appearance import Appearance
from streamer.vision.cuts import CutDetector
from streamer.vision.engines.base import MaskEngine, Picture, Region
from streamer.vision.engines.synthetic import ellipse_box
from streamer.vision.journal import Journal
from streamer.vision.known import Known
from streamer.vision.labels import mask_box
from streamer.vision.matching import Budget, out_of_scene, shows, unmatched
from streamer.vision.naming import Namer, Naming
from streamer.vision.painting import Painting, told, track_of, with_pixels
from streamer.vision.prompts import phrases
from streamer.vision.schedule import HOPELESS, LookSchedule
from streamer.vision.smoothing import Smoother
from streamer.vision.story import TrackStory, nobody_knows
from streamer.vision.tracking import People, Person

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings
    from streamer.vision.faces import Face, FaceReader
    from streamer.vision.quality import FaceQuality

SMALLEST_FACE = 14.0
"""Pixels of height; smaller ones are neither named nor followed."""
COMPARED_A_LOOK = 8
"""Faces that are embedded in one look at most; the others have their turn in the next one."""
SEEDS_A_FRAME = 2
"""Tracks whose mask is sought from their face alone, on one frame."""
DOUBT_FAILURES = 3
"""Frames in a row without a mask after which a name must prove itself again."""


class FrameProcessor:
    """All that vision does for one stream. One per stream and thread; models are shared, state is not."""

    def __init__(
        self,
        engine: MaskEngine,
        faces: FaceReader | None,
        settings: VisionSettings,
        *,
        still: bool = False,
        first_track_id: int = 1,
        namer: Namer | None = None,
        smoother: Smoother | None = None,
    ) -> None:
        """`faces` None: one track without a face that bears the target's name (engine `synthetic`).

        `still`: each frame is a photo of its own: faces are sought at more scales, one look is all the evidence.
        `namer`, `smoother`: ones that listen as well (calibration, benchmark).
        """
        self._engine = engine
        self._faces = faces
        self._settings = settings
        self._still = still
        self._target = Target()
        self._phrases: tuple[str, ...] = ()
        self._people = People(settings.max_tracks, first_track_id)
        self._model_id = faces.model_id if faces is not None else ""
        self._members: frozenset[str] = frozenset()
        self._namer = namer or Namer(Known.nobody(self._model_id), still=still, margin=settings.naming_margin)
        self._journal = Journal(self._model_id)
        self._cuts = CutDetector()
        self._appearance = Appearance()
        # An invented mask (engine `synthetic`) goes its own way over the picture: nothing there could steady it.
        self._smoother = smoother or Smoother(0.0 if still or faces is None else settings.smoothing)
        self._painting = Painting(engine, self._smoother)
        self._schedule = LookSchedule(settings.identity_every)
        self._turn = 0
        self._began = 0.0
        self._names: dict[int, Naming] = {}

    @property
    def engine_name(self) -> str:
        """Of the mask engine, as results tell it."""
        return self._engine.name

    def set_known(self, known: Known) -> None:
        """Name by this gallery from the next frame on; a removed member's name is gone at once."""
        self._namer.set_known(known)
        members = frozenset(known.names)
        self._journal.forget_members(self._members - members)
        self._members = members

    def story(self, track_id: int) -> TrackStory | None:
        """Why a track is named as it is; None for one that is unknown, or gone for long."""
        story = self._journal.story(track_id)
        if story is None and any(person.id == track_id for person in self._people):
            return nobody_knows(track_id, self._model_id)
        return story

    def set_target(self, target: Target) -> None:
        """What is wanted from the next frame on.

        Raises:
            PromptUnsupported: the engine cannot answer the object prompt; the old target stays.
        """
        wanted = phrases(target.object) if target.object is not None else ()
        for phrase in wanted:
            self._engine.check_phrase(phrase)
        if target.object != self._target.object:
            for person in self._people:
                person.part = None
                self._smoother.forget((person.id, "part"))
        self._target, self._phrases = target, wanted

    def reset(self) -> None:
        """Forget every track (the source changed); the target and the gallery stay."""
        self._new_shot()
        self._cuts.reset()

    def close(self) -> None:
        """Free the engine's state; twice is fine."""
        self._people.clear()
        self._engine.close()

    @property
    def engine(self) -> MaskEngine:
        """Whose `encode` comes between `begin` and `finish`."""
        return self._engine

    def step(self, frame: Frame) -> FrameResult:
        """The result for `frame`; frames come in order."""
        picture = self.begin(frame)
        self._engine.encode(picture)
        return self.finish(frame, picture)

    def begin(self, frame: Frame) -> Picture:
        """First part of `step`, for who encodes the pictures of several streams together: `frame` as the engine is to
        encode it."""
        self._began = time.perf_counter()
        if self._still or (self._faces is not None and self._cuts.step(frame.i420)):
            self._new_shot()
        self._smoother.show(frame.i420)
        bgr = cv2.cvtColor(frame.i420, cv2.COLOR_YUV2BGR_I420)
        return Picture(bgr, frame.index, frame.pts_seconds)

    def finish(self, frame: Frame, picture: Picture) -> FrameResult:
        """The rest of `step`, after `picture` was encoded."""
        for person in self._people:
            person.fresh = person.face_known = False
        self._propagate(self._due(), frame)
        identified, identity_seconds = False, 0.0
        if self._faces is None:
            self._follow_synthetic(frame)
        elif not self._cuts.dissolving and self._due_look(frame):
            identified = True
            before = time.perf_counter()
            new = self._look(self._faces, picture.bgr, frame)
            identity_seconds = time.perf_counter() - before
            self._decide(frame)
            self._propagate(self._chosen(new), frame)
        self._prune(frame)
        self._decide(frame)
        wanted = {person.id for person in self._people if self._is_target(person)}
        label_map = self._painting.label_map(self._people, wanted, self._target, self._phrases, frame)
        shown = with_pixels(self._people, label_map)
        tracks = tuple(
            track_of(
                person,
                self._names.get(person.id),
                self._target,
                frame,
                has_mask=person.label in shown,
                undecided=self._undecided(person),
            )
            for person in self._people
            if told(person)
        )
        self._schedule.end_frame()
        total = time.perf_counter() - self._began
        return FrameResult(
            frame_index=frame.index,
            pts_seconds=frame.pts_seconds,
            width=frame.width,
            height=frame.height,
            engine=self.engine_name,
            identified=identified,
            tracks=tracks,
            label_map=label_map,
            between_shots=self._cuts.dissolving,
            stage_seconds={"identity": identity_seconds, "propagate": total - identity_seconds},
        )

    # Decisions ------------------------------------------------------------------------------------------------------

    def _is_target(self, person: Person) -> bool:
        return self._target.member is None or self._name(person) == self._target.member

    def _name(self, person: Person) -> str | None:
        return self._names.get(person.id, Naming(None, None)).name

    def _undecided(self, person: Person) -> bool:
        """A photo has no second look, and an invented track (no faces) has its name from the start."""
        if self._still or self._faces is None or self._name(person) is not None:
            return False
        was = self._namer.was(person.id)
        return self._namer.undecided(person.id) or (was is not None and self._target.member in (None, was))

    def _due_look(self, frame: Frame) -> bool:
        """Whether to look for faces on this frame: at once in a new shot, soon where a name is doubtful."""
        named = [person for person in self._people if self._name(person) is not None]
        faces = {person.id: person.face_xyxy for person in named if person.fresh and person.face_known}
        if self._appearance.step(planes(frame.i420)[0], faces):
            self._schedule.doubt()
        return self._schedule.due(self._people, self._namer, frame.pts_seconds)

    def _due(self) -> list[Person]:
        """Tracks to propagate on this frame: the target's always, of the others one in turn."""
        return self._chosen([person for person in self._people if person.failures < HOPELESS])

    def _chosen(self, people: list[Person]) -> list[Person]:
        if self._still:
            return people
        seeded = [person for person in people if person.region is not None]
        waiting = [person for person in people if person.region is None]
        # A person takes several passes to find: a crowd after a cut is found over some frames, not in one long stall.
        waiting.sort(key=lambda person: (not self._is_target(person), person.failures))
        people = seeded + waiting[:SEEDS_A_FRAME]
        if self._target.everybody or self._target.member is None:
            return people
        wanted = [person for person in people if self._is_target(person)]
        others = [person for person in people if not self._is_target(person)]
        if others:
            self._turn += 1
            wanted.append(others[self._turn % len(others)])
        return wanted

    # Masks ----------------------------------------------------------------------------------------------------------

    def _propagate(self, due: list[Person], frame: Frame) -> None:
        if not due:
            return
        regions = self._engine.propagate([person.id for person in due])
        for person in due:
            region = regions.get(person.id)
            if region is None:
                self._miss(person, frame)
            else:
                self._show(person, region, frame)

    def _show(self, person: Person, region: Region, frame: Frame) -> None:
        person.region = self._smoother.step(person.id, region)
        person.fresh, person.failures, person.lost_since = True, 0, None
        if region.face_xyxy is not None:
            person.face_xyxy, person.face_known = region.face_xyxy, True
        box = mask_box(person.region, frame.width, frame.height)
        if box is None:
            self._miss(person, frame)
        else:
            person.box_xyxy = box

    def _miss(self, person: Person, frame: Frame) -> None:
        person.region = person.part = None
        person.failures += 1
        if person.lost_since is None:
            person.lost_since = frame.pts_seconds
        if person.failures == DOUBT_FAILURES and person.face_missed > 0:
            self._namer.doubt(person.id)
        self._smoother.forget(person.id)
        self._smoother.forget((person.id, "part"))

    def _follow_synthetic(self, frame: Frame) -> None:
        if not len(self._people):
            box = ellipse_box(frame.pts_seconds, frame.width, frame.height)
            person = self._people.add(box, frame.pts_seconds)
            self._engine.prompt(person.id, box_xyxy=box)
            self._propagate([person], frame)

    def _prune(self, frame: Frame) -> None:
        for gone, kept in self._people.doubles():
            if self._namer.looks(gone.id):
                # One of two people has passed before the other: who is left in sight, their face must say.
                self._namer.doubt(kept.id)
            self._drop(gone)
        for person in self._people.expired(frame.pts_seconds):
            self._drop(person)

    def _drop(self, person: Person) -> None:
        self._people.remove(person)
        self._namer.forget(person.id)
        self._engine.remove(person.id)
        self._appearance.forget(person.id)
        self._smoother.forget(person.id)
        self._smoother.forget((person.id, "part"))
        self._names.pop(person.id, None)

    def _new_shot(self) -> None:
        self._people.clear()
        self._namer.reset()
        self._engine.reset()
        self._appearance.reset()
        self._smoother.reset()
        self._names.clear()
        self._schedule.new_shot()

    # Faces ----------------------------------------------------------------------------------------------------------

    def _look(self, reader: FaceReader, bgr: np.ndarray, frame: Frame) -> list[Person]:
        """Find faces, match them to tracks, gather evidence; returns the tracks that need a mask on this frame."""
        self._schedule.looked(frame.pts_seconds)
        found = reader.find_in_photo(bgr) if self._still else reader.find(bgr)
        faces = [face for face in found if face.height >= SMALLEST_FACE]
        matched = self._people.match(faces)
        seen = {person.id for person in matched.values()}
        for person in self._people:
            if person.id not in seen:
                person.face_missed += 1
                if out_of_scene(person, self._cuts.newest):
                    self._namer.doubt(person.id)
        budget = Budget(len(faces) if self._still else COMPARED_A_LOOK)
        need: list[Person] = []
        # The faces of the target and of undecided tracks come first.
        for position in sorted(matched, key=lambda position: self._urgency(matched[position])):
            person, face = matched[position], faces[position]
            if self._schedule.compares(person.id, self._namer) and budget.take():
                probe = reader.compare(bgr, face)
                if self._namer.is_someone_else(person.id, *probe):
                    self._drop(person)
                    continue
                self._compare(person, bgr, face, probe, frame)
            self._found(person, face, frame)
            if not shows(person, face.box_xyxy):
                need.append(person)
        alive = {person.id for person in self._people}
        new_faces = [face for position, face in enumerate(faces) if unmatched(matched.get(position), alive)]
        need += self._start(reader, bgr, frame, new_faces, budget)
        self._schedule.found(len(self._people) > 0)
        return need

    def _start(
        self, reader: FaceReader, bgr: np.ndarray, frame: Frame, faces: list[Face], budget: Budget
    ) -> list[Person]:
        """New tracks for `faces` (largest first), making room for a face that resembles the target."""
        new = []
        for face in faces:
            probe = reader.compare(bgr, face) if budget.take() else None
            if self._people.full:
                wanted = self._target.member
                if probe is None or wanted is None or not self._namer.resembles(probe[0], wanted):
                    continue
                spare = [person for person in self._people if self._name(person) is None]
                if not spare:
                    continue
                self._drop(min(spare, key=lambda person: person.face_xyxy[3] - person.face_xyxy[1]))
            person = self._people.add(face.box_xyxy, frame.pts_seconds)
            person.scene = self._cuts.newest
            self._engine.prompt(person.id, face_xyxy=face.box_xyxy)
            if probe is not None:
                self._compare(person, bgr, face, probe, frame)
            new.append(person)
        return new

    def _found(self, person: Person, face: Face, frame: Frame) -> None:
        person.found(face.box_xyxy, frame.pts_seconds, self._cuts.newest)
        self._appearance.forget(person.id)
        self._engine.prompt(person.id, face_xyxy=face.box_xyxy)

    def _compare(
        self, person: Person, bgr: np.ndarray, face: Face, probe: tuple[np.ndarray, FaceQuality], frame: Frame
    ) -> None:
        embedding, quality = probe
        if not self._namer.observe(person.id, embedding, quality, frame.pts_seconds):
            self._journal.turned(person.id)
        # A mask that strayed from its person must not keep the name that the face has left behind.
        for other in self._people:
            name = self._name(other)
            if other is not person and other.face_missed > 0 and name and self._namer.resembles(embedding, name):
                self._namer.doubt(other.id)
        similarity = self._namer.similarity(embedding)
        self._journal.looked(person.id, bgr, face, embedding, quality, similarity, frame.pts_seconds)

    def _urgency(self, person: Person) -> tuple[bool, bool, int]:
        return not self._is_target(person), self._name(person) is not None, self._namer.looks(person.id)

    def _decide(self, frame: Frame) -> None:
        if self._faces is None:
            self._names = {person.id: Naming(self._target.member, None) for person in self._people}
        else:
            visible = [person.id for person in self._people if person.visible]
            self._names = self._namer.decide(visible, frame.pts_seconds)
            for track, said in self._names.items():
                if said.reason is not None:
                    self._journal.decided(track, said.name, said.reason, frame.pts_seconds)
