"""The lite engine: BlazePose with segmentation on a square that follows each person. CPU, no model hub.

A face seeds the square (MediaPipe's proportions); the person's own landmarks carry it on, one pass a frame, as in
Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking" (2020). The network segments the one person that
its square is centred on, so people who touch are told apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
import onnxruntime

from streamer.errors import PromptUnsupported
from streamer.tracks import Box
from streamer.vision.engines import pose_graph
from streamer.vision.engines.base import Instance, Picture, Region
from streamer.vision.engines.body import (
    FACE_COVERED,
    GRID,
    MAX_GROWTH,
    VIEWS,
    Body,
    Square,
    View,
    agrees,
    anchor,
    body_square,
    carried_face,
    continues,
    covered,
    crop,
    face_square,
    nearer_to_other,
    onto,
    square_box,
    tensor,
)
from streamer.vision.engines.parts import PartReader, canonical
from streamer.vision.faces import check_device, providers_of, session_options
from streamer.vision.tracking import overlap as face_overlap
from streamer.vision.tracking import size_ratio

POSE_FILE = "pose_full_seg.onnx"
SEED_PRESENCE, FOLLOW_PRESENCE = 0.5, 0.3
"""Below this there is no person in the square: of a new one, of one that is followed."""
FOREIGN_LOGIT = -4.0
DISPUTE_CELLS = 60
"""Cells of the grid that two masks share below which nobody need decide."""
SPILL = 0.3
"""Share of another track's inner face that a mask may hold before it counts as spilt onto them."""
PERSON_CONCEPT = "person"


@dataclass(frozen=True, slots=True)
class LiteModels:
    """Sessions, shared by every stream of a worker."""

    FILES: ClassVar[tuple[str, ...]] = (POSE_FILE, "selfie_segmenter.onnx", "face_landmarks478.onnx")

    pose: onnxruntime.InferenceSession
    people: onnxruntime.InferenceSession
    mesh: onnxruntime.InferenceSession

    @classmethod
    def load(cls, weights: dict[str, Path], threads: int, device: Literal["cpu", "cuda"] = "cpu") -> LiteModels:
        """`weights`: the path of each of `FILES`."""

        def session(file: str) -> onnxruntime.InferenceSession:
            model: str | bytes = str(weights[file])
            if file == POSE_FILE and device == "cpu" and pose_graph.worthwhile():
                model = pose_graph.packed(weights[file])
            made = onnxruntime.InferenceSession(model, session_options(threads), providers=providers_of(device))
            check_device(made, device, file)
            return made

        return cls(*(session(file) for file in cls.FILES))


class LiteEngine:
    """`MaskEngine` on BlazePose. State per track: one square, one mask on a 256 x 256 grid."""

    name = "lite"

    def __init__(self, models: LiteModels) -> None:
        self._models = models
        self._parts = PartReader(models.mesh)
        self._bodies: dict[int, Body] = {}
        self._picture: Picture | None = None

    def encode(self, picture: Picture) -> None:
        """See `MaskEngine`."""
        self._picture = picture

    def detect(self, concepts: Sequence[str]) -> list[Instance]:
        """All people of the picture as one instance of "person"; nothing for a picture without any."""
        for concept in concepts:
            if concept != PERSON_CONCEPT:
                raise PromptUnsupported(
                    f'the lite engine detects "person" only, not {concept!r}: engine sam3 detects any concept'
                )
        bgr = self._bgr
        height, width = bgr.shape[:2]
        small = cv2.resize(bgr, (GRID, GRID), interpolation=cv2.INTER_AREA)
        (scores,) = self._models.people.run(None, {self._models.people.get_inputs()[0].name: tensor(small)})
        mask = cv2.resize(scores.reshape(GRID, GRID), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not ys.size:
            return []
        box = (float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
        return [Instance(PERSON_CONCEPT, float(scores.max()), box, mask)]

    def prompt(
        self,
        track_id: int,
        *,
        face_xyxy: Box | None = None,
        box_xyxy: Box | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Start or correct a track from a face box. Without one, the face is taken to be atop the person's box."""
        if face_xyxy is None:
            box = box_xyxy if box_xyxy is not None else _box_of(mask)
            if box is None:
                return
            face_xyxy = _face_of_person(box)
        body = self._bodies.get(track_id)
        view = None if body is None or body.spilt else body.view
        if body is not None and view is not None and agrees(view, face_xyxy):
            grown = size_ratio(body.face, face_xyxy)
            anchor(body, view, face_xyxy)
            if grown < MAX_GROWTH:
                return
        self._bodies[track_id] = Body(face_xyxy)

    def propagate(self, due: Collection[int]) -> dict[int, Region]:
        """See `MaskEngine`."""
        regions: dict[int, Region] = {}
        found: list[int] = []
        for track_id in due:
            body = self._bodies.get(track_id)
            if body is None:
                continue
            view = self._seed(track_id, body) if body.view is None else self._follow(body)
            if view is not None:
                view = self._contained(track_id, body, view)
            if view is None:
                body.misses += 1
                # What is carried along without being seen is a guess: start again from the last face.
                body.view = None
                continue
            body.view, body.misses = view, 0
            found.append(track_id)
        for track_id in found:
            self._settle_disputes(track_id)
        for track_id in found:
            body = self._bodies[track_id]
            if body.view is not None:
                regions[track_id] = Region(
                    square_box(body.view.square), body.view.logits, body.view.presence, body.face
                )
        return regions

    def part(self, track_id: int, phrase: str) -> Region | None:
        """See `MaskEngine`; phrases: `parts.PARTS` and their synonyms."""
        part = canonical(phrase)
        body = self._bodies.get(track_id)
        view = None if body is None else body.view
        if body is None or view is None:
            return None
        logits = self._parts.read(part, self._bgr, view.square, view.logits, view.landmarks, body.face)
        return None if logits is None else Region(square_box(view.square), logits, view.presence, body.face)

    def check_phrase(self, phrase: str) -> None:
        """See `MaskEngine`."""
        canonical(phrase)

    def remove(self, track_id: int) -> None:
        """See `MaskEngine`."""
        self._bodies.pop(track_id, None)

    def reset(self) -> None:
        """See `MaskEngine`."""
        self._bodies.clear()

    def close(self) -> None:
        """See `MaskEngine`; the sessions belong to the worker."""
        self._bodies.clear()
        self._picture = None

    @property
    def _bgr(self) -> np.ndarray:
        assert self._picture is not None, "encode comes first"
        return self._picture.bgr

    def _seed(self, track_id: int, body: Body) -> View | None:
        """Find the person of a face: the widest view that is surely theirs, or None."""
        others = [other.face for other_id, other in self._bodies.items() if other_id != track_id]
        second_best: tuple[int, View] | None = None
        for level in range(len(VIEWS)):
            view = self._look(face_square(body.face, level), SEED_PRESENCE)
            if view is None or not self._is_of(view, body.face):
                continue
            if level == 0:
                # The square from the face is a guess at the body; its landmarks know better.
                closer = self._look(body_square(view), SEED_PRESENCE)
                if closer is not None and self._is_of(closer, body.face):
                    view = closer
            if any(self._covered(view, other) > SPILL for other in others):
                second_best = second_best or (level, view)
                continue
            return self._settle(body, level, view)
        return None if second_best is None else self._settle(body, *second_best)

    def _settle(self, body: Body, level: int, view: View) -> View:
        body.level = level
        anchor(body, view, body.face)
        return view

    def _follow(self, body: Body) -> View | None:
        """The person in the square that their own landmarks ask for; a tighter look where that fails."""
        before = body.view
        assert before is not None
        square = body_square(before) if body.level == 0 else face_square(body.face, body.level)
        view = self._look(square, FOLLOW_PRESENCE)
        if view is None or not continues(before, view):
            return self._rescue(body)
        face = carried_face(body, view)
        if self._covered(view, face) < FACE_COVERED:
            return self._rescue(body)
        body.face = face
        return view

    def _rescue(self, body: Body) -> View | None:
        """One more look, at the tightest view that still shows the trunk, where the face was last."""
        level = 2
        view = self._look(face_square(body.face, level), SEED_PRESENCE)
        if view is None or not self._is_of(view, body.face):
            return None
        return self._settle(body, level, view)

    def _contained(self, track_id: int, body: Body, view: View) -> View | None:
        """`view` without what lies on the people of other tracks, where it has spilt onto a face of theirs.

        None where little is left: the mask was somebody else's.
        """
        logits, body.spilt = view.logits, False
        before = np.count_nonzero(logits > 0)
        for other_id, other in self._bodies.items():
            if other_id == track_id or face_overlap(other.face, body.face) > FACE_COVERED:
                continue
            if self._covered(view, other.face) > SPILL:
                foreign = nearer_to_other(body, view, other)
                logits = np.where(foreign, np.minimum(logits, np.float32(FOREIGN_LOGIT)), logits)
                body.spilt = True
        if not body.spilt:
            return view
        if np.count_nonzero(logits > 0) < 0.3 * before:
            return None
        cut = replace(view, logits=logits)
        return cut if self._covered(cut, body.face) >= FACE_COVERED else None

    def _settle_disputes(self, track_id: int) -> None:
        """Give up the pixels that another track claims as well and that lie nearer to their body."""
        body = self._bodies[track_id]
        view = body.view
        assert view is not None
        for other_id, other in self._bodies.items():
            if (
                other_id == track_id
                or other.view is None
                or not face_overlap(square_box(view.square), square_box(other.view.square))
            ):
                continue
            disputed = (view.logits > 0) & (onto(view, other.view) > 0)
            if np.count_nonzero(disputed) < DISPUTE_CELLS:
                continue
            lost = disputed & nearer_to_other(body, view, other)
            logits = np.where(lost, np.minimum(view.logits, np.float32(FOREIGN_LOGIT)), view.logits)
            view = body.view = replace(view, logits=logits)

    def _look(self, square: Square, presence: float) -> View | None:
        """Run the network on `square`; None: nobody there."""
        x0, y0, side = square
        height, width = self._bgr.shape[:2]
        if not 8 <= side <= 16 * max(height, width):
            return None
        picture = crop(self._bgr, square)
        outputs = self._models.pose.run(pose_graph.OUTPUTS, {self._models.pose.get_inputs()[0].name: tensor(picture)})
        seen = float(outputs[1].ravel()[0])
        if seen < presence:
            return None
        points = outputs[0].reshape(39, 5)
        landmarks = np.empty((39, 3), np.float32)
        landmarks[:, :2] = points[:, :2] * (side / GRID) + np.array([x0, y0], np.float32)
        landmarks[:, 2] = 1 / (1 + np.exp(-np.clip(points[:, 3], -20, 20)))
        return View(square, seen, landmarks, outputs[2].reshape(GRID, GRID))

    def _is_of(self, view: View, face: Box) -> bool:
        """Whether the person in `view` is the one with `face`."""
        return agrees(view, face) and self._covered(view, face) >= FACE_COVERED

    def _covered(self, view: View, face: Box) -> float:
        return covered(view.logits, view.square, face, self._bgr.shape[:2])


def _face_of_person(box: Box) -> Box:
    """A plausible face box for a standing person's box."""
    x0, y0, x1, y1 = box
    height = min((y1 - y0) / 6.5, (x1 - x0) / 1.8)
    x, top = (x0 + x1) / 2, y0 + 0.2 * height
    return x - 0.38 * height, top, x + 0.38 * height, top + height


def _box_of(mask: np.ndarray | None) -> Box | None:
    if mask is None or not mask.any():
        return None
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
