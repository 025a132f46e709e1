"""The SAM 3 engine: people by concept and face, masks by memory, parts by concept AND person.

One image encoding a picture serves the concept detector and the tracker (Carion et al., "SAM 3: Segment Anything with
Concepts", 2025). The detector runs only where a face wants a person or a part is due; in between the tracker carries
the masks on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from streamer.tracks import Box
from streamer.vision.engines.base import Instance, MaskEngine, Picture, Region
from streamer.vision.engines.sam3.association import assign_faces, box_around, face_covered, overlap
from streamer.vision.engines.sam3.carry import CarriedFace
from streamer.vision.engines.sam3.features import Features
from streamer.vision.engines.sam3.geometry import box_of, box_overlap, scaled, sigmoid
from streamer.vision.engines.sam3.headroom import Headroom
from streamer.vision.engines.sam3.meta import MetaNetwork
from streamer.vision.engines.sam3.network import Network
from streamer.vision.engines.sam3.parts import Parts
from streamer.vision.engines.sam3.postprocess import clean
from streamer.vision.engines.sam3.scene import Scene

PERSON = "person"
FACE_COVERED = 0.5
"""Share of the inner face that a track's mask must cover to agree with that face."""
SAME_PERSON = 0.5
"""Overlap (IoU) with the detected person, or of boxes, below which the track's mask is not that person's."""
GOOD_OVERLAP, GOOD_SCORE, GOOD_LOGIT = 0.8, 0.8, 2.0
"""Overlap with a detection, the detection's score, and the object score logit from which a frame becomes a conditioning
frame (SAM 3's own `high_iou_thresh` and `high_conf_thresh`)."""
LOST_FRAMES = 5
"""Frames without the person after which a new prompt starts on clean memory, whatever the mask says."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    face: Box | None
    box: Box | None
    mask: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Detected:
    """The detected person that a face belongs to."""

    logits: torch.Tensor
    """(h, w)"""
    mask: np.ndarray
    """(h, w) bool"""
    score: float


class Sam3Engine:
    """`MaskEngine` on SAM 3, or on a `sam2` or `edgetam` checkpoint (then without concepts).

    State per stream: of each object at most 4 conditioning frames, 6 spatial memories and 15 pointers.
    """

    def __init__(self, network: Network | MetaNetwork, headroom: Headroom) -> None:
        """`network` and `headroom` are one worker's, shared by its streams."""
        self.name: str = network.family
        self._network = network
        self._headroom = headroom
        self._scene = Scene(network, headroom)
        self._parts = Parts(self._scene, network.options.part_refresh_frames)
        self._pending: dict[int, _Prompt] = {}
        self._faces: dict[int, CarriedFace] = {}
        self._prepared: dict[int, tuple[int, Features]] = {}
        """Of pictures to come, by their index: the headroom's generation, and features. Gone once they are encoded."""
        self._lost: dict[int, int] = {}
        """Frames in a row on which a track was looked for and not there."""

    def encode(self, picture: Picture) -> None:
        """See `MaskEngine`. Prompts that came after the last `propagate` are answered first, on their own picture."""
        generation, features = self._prepared.pop(picture.index, (-1, None))
        # After a step down in between, what was prepared is of another input size.
        self.adopt(picture, features if generation == self._headroom.generation else None)

    def prepare(self, pictures: Sequence[Picture]) -> None:
        """See `LookAhead`. Where the batch does not fit into memory, each picture goes alone when its turn comes."""
        try:
            features = self._network.encode([picture.bgr for picture in pictures])
        except torch.OutOfMemoryError:
            Headroom.free()
            return
        generation = self._headroom.generation
        self._prepared = {picture.index: (generation, own) for picture, own in zip(pictures, features, strict=True)}

    @torch.inference_mode()
    def adopt(self, picture: Picture, features: Features | None) -> None:
        """As `encode`, with features that were computed together with other streams' (`encode_together`)."""
        if self._pending and not self._scene.stale:
            self._settle()
        self._scene.show(picture, features)
        self._parts.retire()

    @torch.inference_mode()
    def detect(self, concepts: Sequence[str]) -> list[Instance]:
        """See `MaskEngine`: instances of any noun phrase, best first within each."""
        height, width = self._scene.size
        for concept in concepts:
            self._network.check_concept(concept)
        found = self._scene.find(concepts)
        instances = []
        for concept in dict.fromkeys(concepts):
            for score, logits in zip(found[concept].scores, found[concept].logits, strict=True):
                grid = clean(logits.cpu().numpy())
                mask = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) > 0
                if mask.any():
                    instances.append(Instance(concept, float(score), box_of(mask), mask))
        return instances

    def prompt(
        self,
        track_id: int,
        *,
        face_xyxy: Box | None = None,
        box_xyxy: Box | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """See `MaskEngine`. All prompts of a picture are answered together: its faces are assigned one to one."""
        if face_xyxy is not None or box_xyxy is not None or mask is not None:
            self._pending[track_id] = _Prompt(face_xyxy, box_xyxy, mask)

    @torch.inference_mode()
    def propagate(self, due: Collection[int]) -> dict[int, Region]:
        """See `MaskEngine`."""
        self._follow(due)
        if self._pending:
            self._settle()
        regions = {track_id: self._region(track_id) for track_id in due}
        return {track_id: region for track_id, region in regions.items() if region is not None}

    @torch.inference_mode()
    def part(self, track_id: int, phrase: str) -> Region | None:
        """See `MaskEngine`: any noun phrase; what lies at least half on the person, cut to the person."""
        self._network.check_concept(phrase)
        person = self._scene.seen.get((track_id, None))
        if person is None or not person.there:
            return None
        if self._scene.full:
            self._parts.retire(2)
        part = self._parts.see((track_id, phrase), person)
        return None if part is None else Region(self._whole, part.logits, sigmoid(part.score))

    def check_phrase(self, phrase: str) -> None:
        """See `MaskEngine`."""
        self._network.check_concept(phrase)

    def remove(self, track_id: int) -> None:
        """See `MaskEngine`."""
        self._parts.forget_of(track_id)
        self._scene.forget((track_id, None))
        for state in (self._pending, self._faces, self._lost):
            state.pop(track_id, None)

    def reset(self) -> None:
        """See `MaskEngine`."""
        self._parts.clear()
        self._scene.clear()
        for state in (self._pending, self._faces, self._lost):
            state.clear()

    def close(self) -> None:
        """See `MaskEngine`; the network belongs to the worker."""
        self.reset()
        self._prepared.clear()
        self._scene.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What was given up for memory so far, in words."""
        return tuple(self._headroom.given_up)

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor that this stream keeps from picture to picture, for counting."""
        return self._scene.tensors()

    @property
    def _whole(self) -> Box:
        height, width = self._scene.size
        return 0.0, 0.0, float(width), float(height)

    def _follow(self, track_ids: Collection[int]) -> None:
        """Track people and their parts onto the current picture, in one batch."""
        scene = self._scene
        before = set(scene.seen)
        scene.track([*((track_id, None) for track_id in track_ids), *self._parts.wanted(set(track_ids))])
        for track_id in track_ids:
            seen = scene.seen.get((track_id, None))
            if seen is not None and (track_id, None) not in before:
                self._lost[track_id] = 0 if seen.there else self._lost.get(track_id, 0) + 1

    def _region(self, track_id: int) -> Region | None:
        seen = self._scene.seen.get((track_id, None))
        if seen is None or not seen.there or not seen.mask.any():
            return None
        face = self._faces.pop(track_id, None)
        if face is not None:
            face = face.moved(seen.mask, self._scene.size)
        if face is not None:
            self._faces[track_id] = face
        return Region(self._whole, seen.logits, sigmoid(seen.score), None if face is None else face.box_xyxy)

    # Prompts --------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Answer the pending prompts on the current picture, all at once."""
        pending, self._pending = self._pending, {}
        self._follow(pending)
        people = self._people_of({i: p.face for i, p in pending.items() if p.face is not None and p.mask is None})
        for track_id, prompt in pending.items():
            person = people.get(track_id)
            if self._agrees(track_id, prompt, person):
                self._strengthen(track_id, person)
            else:
                self._seed(track_id, prompt, person)
            seen = self._scene.seen.get((track_id, None))
            if prompt.face is not None and seen is not None and seen.there:
                face = CarriedFace.anchor(prompt.face, seen.mask, self._scene.size)
                if face is not None:
                    self._faces[track_id] = face

    def _people_of(self, faces: dict[int, Box]) -> dict[int, _Detected]:
        """By track: the detected person of each face, one to one; a face that nobody covers is left out."""
        if not faces or self._network.family != "sam3":
            return {}
        found = self._scene.find([PERSON, *self._parts.due()])[PERSON]
        ids = list(faces)
        chosen = assign_faces(found.masks, found.scores.tolist(), [faces[i] for i in ids], self._scene.size)
        return {
            ids[row]: _Detected(found.logits[column], found.masks[column], float(found.scores[column]))
            for row, column in chosen.items()
        }

    def _agrees(self, track_id: int, prompt: _Prompt, person: _Detected | None) -> bool:
        """Whether the track's own mask on this picture is that of the prompt."""
        seen = self._scene.seen.get((track_id, None))
        if seen is None or not seen.there or self._lost.get(track_id, 0) >= LOST_FRAMES:
            return False
        inside = seen.mask[None]
        if prompt.mask is not None:
            size = (inside.shape[2], inside.shape[1])
            given = cv2.resize(prompt.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
            return float(overlap(given, inside)[0]) >= GOOD_OVERLAP
        if prompt.face is not None:
            if float(face_covered(inside, prompt.face, self._scene.size)[0]) < FACE_COVERED:
                return False
            return person is None or float(overlap(person.mask, inside)[0]) >= SAME_PERSON
        assert prompt.box is not None, "a prompt has a face, a box or a mask"
        own = scaled(box_of(inside[0]), inside.shape[1:], self._scene.size)
        return box_overlap(own, prompt.box) >= SAME_PERSON

    def _strengthen(self, track_id: int, person: _Detected | None) -> None:
        """Keep this frame as a conditioning frame where detector and tracker both are sure and say the same."""
        seen = self._scene.seen[(track_id, None)]
        if person is None or person.score < GOOD_SCORE or seen.score < GOOD_LOGIT:
            return
        if float(overlap(person.mask, seen.mask[None])[0]) >= GOOD_OVERLAP:
            self._scene.promote((track_id, None))

    def _seed(self, track_id: int, prompt: _Prompt, person: _Detected | None) -> None:
        """Start the track on clean memory. Its parts go too: they were somebody else's."""
        scene, key = self._scene, (track_id, None)
        self._parts.forget_of(track_id)
        scene.forget(key)
        self._lost.pop(track_id, None)
        if scene.full:
            self._parts.retire(2)
        if prompt.mask is not None:
            scene.seed(key, grid=torch.from_numpy(prompt.mask.astype(np.float32)).to(self._network.device) - 0.5)
        elif person is not None:
            scene.seed(key, grid=person.logits)
        elif prompt.box is not None:
            scene.seed(key, box=prompt.box)
        elif prompt.face is not None:
            scene.seed(key, box=box_around(prompt.face, scene.size))


class Sam3Models:
    """One loaded network and what it may use of the device; its streams share both."""

    def __init__(self, network: Network | MetaNetwork) -> None:
        self.network = network
        self.headroom = Headroom(network)

    def engine(self) -> Sam3Engine:
        """A fresh engine for one stream."""
        return Sam3Engine(self.network, self.headroom)

    def encode(self, engines: Sequence[MaskEngine], pictures: Sequence[Picture]) -> None:
        """Make each picture the current one of its engine (made by `engine`), in one batch."""
        own = [engine for engine in engines if isinstance(engine, Sam3Engine)]
        assert len(own) == len(engines), "engines of another model"
        encode_together(own, pictures)


def encode_together(engines: Sequence[Sam3Engine], pictures: Sequence[Picture]) -> None:
    """Make each picture the current one of its engine; all go through the image encoder in one batch.

    The engines share one network. Where the batch does not fit into memory, each goes alone (and steps down there).
    """
    if not engines:
        return
    features: Sequence[Features | None]
    try:
        features = engines[0]._network.encode([picture.bgr for picture in pictures])
    except torch.OutOfMemoryError:
        features = [None] * len(pictures)
    if None in features:
        Headroom.free()
    for engine, picture, own in zip(engines, pictures, features, strict=True):
        engine.adopt(picture, own)
