"""The lite engine: BlazePose with segmentation on a square that follows each person. CPU, no model hub.

A face seeds the square (MediaPipe's proportions); the person's own landmarks carry it on, one pass a frame, as in
Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking" (2020). The network segments the one person that
its square is centred on, so people who touch are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
import onnxruntime

from streamer.errors import PromptUnsupported
from streamer.tracks import Box
from streamer.vision.engines.base import Instance, Picture, Region
from streamer.vision.engines.parts import PartReader, canonical
from streamer.vision.faces import check_device, providers_of, session_options

GRID = 256
"""Pixels a side of the network's input and of its mask."""
PRESENCE = 0.5
"""Below this there is no person in the square."""
SEED_DROP, SEED_SIDE = 2.2, 7.0
"""Face heights from the face's centre down to the square's, and the square's side (measured; see README)."""
SIDE_PER_RADIUS = 2.5
"""The square's side over the distance from the hip centre (landmark 33) to the body circle's rim (34)."""
MAX_JUMP = 0.5
"""Square sides that the centre moves between two frames at most: more is another person."""
MAX_GROWTH = 1.6
"""Ratio between two frames' sides at most."""
HEAD = slice(0, 11)
"""Landmarks of nose, eyes, ears and mouth."""
FACE_COVERED = 0.5
"""Share of the inner face that a person's mask must hold, else it is somebody else's."""
REGION_CONFIDENT = 8.0
"""Logits are clipped here: beyond it they say the same."""
PERSON_CONCEPT = "person"


@dataclass(frozen=True, slots=True)
class LiteModels:
    """Sessions, shared by every stream of a worker."""

    FILES: ClassVar[tuple[str, ...]] = ("pose_full_seg.onnx", "selfie_segmenter.onnx", "face_landmarks478.onnx")

    pose: onnxruntime.InferenceSession
    people: onnxruntime.InferenceSession
    mesh: onnxruntime.InferenceSession

    @classmethod
    def load(cls, weights: dict[str, Path], threads: int, device: Literal["cpu", "cuda"] = "cpu") -> LiteModels:
        """`weights`: the path of each of `FILES`."""

        def session(file: str) -> onnxruntime.InferenceSession:
            made = onnxruntime.InferenceSession(
                str(weights[file]), session_options(threads), providers=providers_of(device)
            )
            check_device(made, device, file)
            return made

        return cls(*(session(file) for file in cls.FILES))


@dataclass(slots=True)
class Body:
    """One followed person."""

    centre: tuple[float, float]
    """Pixels: of the next square."""
    side: float
    """Pixels."""
    face: Box
    """Newest face: found by the detector, then moved along by the landmarks."""
    fresh: bool = True
    """Just seeded: its square comes from a face, so the first look takes two passes."""
    presence: float = 0.0
    logits: np.ndarray | None = None
    """(GRID, GRID) float32 of the newest pass."""
    square: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """x0, y0, side of the newest pass."""
    landmarks: np.ndarray | None = None
    """(39, 3) float32: x, y in pixels of the frame, visibility 0..1."""
    face_offset: tuple[float, float, float] | None = None
    """Detected face centre relative to the head's landmarks, and its height, in square sides."""
    face_aspect: float = 0.75
    """Width over height of the detected face."""
    misses: int = 0


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
        (scores,) = self._models.people.run(None, {self._models.people.get_inputs()[0].name: _tensor(small)})
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
        if body is not None and not body.fresh and body.misses == 0 and self._agrees(body, face_xyxy):
            self._anchor(body, face_xyxy)
            return
        x0, y0, x1, y1 = face_xyxy
        height = y1 - y0
        self._bodies[track_id] = Body(
            ((x0 + x1) / 2, (y0 + y1) / 2 + SEED_DROP * height),
            SEED_SIDE * height,
            face_xyxy,
            face_aspect=(x1 - x0) / max(height, 1e-6),
        )

    def propagate(self, due: Collection[int]) -> dict[int, Region]:
        """See `MaskEngine`."""
        regions = {}
        for track_id in due:
            body = self._bodies.get(track_id)
            if body is None:
                continue
            region = self._follow(body)
            if region is None:
                body.misses += 1
            else:
                body.misses = 0
                regions[track_id] = region
        return regions

    def part(self, track_id: int, phrase: str) -> Region | None:
        """See `MaskEngine`; phrases: `parts.PARTS` and their synonyms."""
        part = canonical(phrase)
        body = self._bodies.get(track_id)
        if body is None or body.logits is None or body.landmarks is None or body.misses:
            return None
        logits = self._parts.read(part, self._bgr, body.square, body.logits, body.landmarks, body.face)
        if logits is None:
            return None
        return Region(_square_box(body.square), logits, body.presence)

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

    def _follow(self, body: Body) -> Region | None:
        """One pass (two for a fresh body) and the person's region, or None where nobody convincing is there."""
        seeded = body.fresh
        if seeded:
            # The square from the face is a guess at the body; the first pass only finds the true one.
            if not self._pass(body, seeded=True):
                return None
            body.fresh = False
        if not self._pass(body, seeded=seeded):
            return None
        if seeded:
            if not self._agrees(body, body.face):
                body.fresh = True
                return None
            self._anchor(body, body.face)
        else:
            body.face = self._carried_face(body)
        assert body.logits is not None
        if _covered(body.logits, body.square, body.face, self._bgr.shape[:2]) < FACE_COVERED:
            return None
        return Region(_square_box(body.square), body.logits, body.presence, body.face)

    def _pass(self, body: Body, seeded: bool) -> bool:
        """Run the network on the body's square and move the square on. False: nobody there, or a jump."""
        (x, y), side = body.centre, body.side
        square = (x - side / 2, y - side / 2, side)
        crop = _crop(self._bgr, square)
        outputs = self._models.pose.run(
            ["landmarks", "presence", "segmentation"], {self._models.pose.get_inputs()[0].name: _tensor(crop)}
        )
        presence = float(outputs[1].ravel()[0])
        if presence < PRESENCE:
            body.presence = presence
            return False
        points = outputs[0].reshape(39, 5)
        landmarks = np.empty((39, 3), np.float32)
        landmarks[:, :2] = points[:, :2] * (side / GRID) + np.asarray(square[:2], np.float32)
        landmarks[:, 2] = 1 / (1 + np.exp(-np.clip(points[:, 3], -20, 20)))
        centre = (float(landmarks[33, 0]), float(landmarks[33, 1]))
        radius = math.dist(landmarks[33, :2], landmarks[34, :2])
        grown = SIDE_PER_RADIUS * radius
        if not seeded:
            moved = math.dist(centre, body.centre) / side
            if moved > MAX_JUMP or not 1 / MAX_GROWTH < grown / side < MAX_GROWTH:
                return False
        height, width = self._bgr.shape[:2]
        if grown < 16 or grown > 12 * max(height, width):
            return False
        body.presence, body.landmarks, body.square = presence, landmarks, square
        body.logits = np.clip(outputs[2].reshape(GRID, GRID), -REGION_CONFIDENT, REGION_CONFIDENT)
        body.centre, body.side = centre, grown
        return True

    def _agrees(self, body: Body, face: Box) -> bool:
        """Whether the body's own head lies on `face`."""
        if body.landmarks is None or body.logits is None:
            return False
        head = body.landmarks[HEAD, :2].mean(axis=0)
        x0, y0, x1, y1 = face
        height = y1 - y0
        away = math.dist(head, ((x0 + x1) / 2, (y0 + y1) / 2)) / height
        carried = body.face[3] - body.face[1]
        return away < 0.6 and 0.6 < carried / height < 1.7

    def _anchor(self, body: Body, face: Box) -> None:
        """Remember where the detected face lies relative to the landmarks."""
        assert body.landmarks is not None
        head = body.landmarks[HEAD, :2].mean(axis=0)
        x0, y0, x1, y1 = face
        side = body.square[2]
        body.face = face
        body.face_aspect = (x1 - x0) / max(y1 - y0, 1e-6)
        body.face_offset = (
            ((x0 + x1) / 2 - float(head[0])) / side,
            ((y0 + y1) / 2 - float(head[1])) / side,
            (y1 - y0) / side,
        )

    def _carried_face(self, body: Body) -> Box:
        if body.face_offset is None or body.landmarks is None:
            return body.face
        head = body.landmarks[HEAD, :2].mean(axis=0)
        side = body.square[2]
        x, y = float(head[0]) + body.face_offset[0] * side, float(head[1]) + body.face_offset[1] * side
        height = body.face_offset[2] * side
        width = height * body.face_aspect
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _tensor(bgr: np.ndarray) -> np.ndarray:
    """(1, 3, H, W) float32 RGB 0..1 of an (H, W, 3) uint8 BGR picture."""
    blob: np.ndarray = cv2.dnn.blobFromImage(bgr, 1 / 255, swapRB=True)
    return blob


def _crop(bgr: np.ndarray, square: tuple[float, float, float]) -> np.ndarray:
    """(GRID, GRID, 3) uint8: `square` (x0, y0, side) of the picture; black beyond its edges."""
    x0, y0, side = square
    scale = GRID / side
    height, width = bgr.shape[:2]
    # Shrinking by sampling alone aliases: average first where the square is much larger than the grid.
    if scale < 0.5:
        left, top = max(int(x0), 0), max(int(y0), 0)
        right, bottom = min(math.ceil(x0 + side), width), min(math.ceil(y0 + side), height)
        if right - left < 2 or bottom - top < 2:
            return np.zeros((GRID, GRID, 3), np.uint8)
        part = bgr[top:bottom, left:right]
        size = (max(round(part.shape[1] * scale * 1.4), 1), max(round(part.shape[0] * scale * 1.4), 1))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        fx, fy = (right - left) / size[0], (bottom - top) / size[1]
        matrix = np.array([[scale * fx, 0, scale * (left - x0)], [0, scale * fy, scale * (top - y0)]])
        shrunk: np.ndarray = cv2.warpAffine(small, matrix, (GRID, GRID))
        return shrunk
    matrix = np.array([[scale, 0, -scale * x0], [0, scale, -scale * y0]])
    crop: np.ndarray = cv2.warpAffine(bgr, matrix, (GRID, GRID))
    return crop


def _square_box(square: tuple[float, float, float]) -> Box:
    x0, y0, side = square
    return x0, y0, x0 + side, y0 + side


def _covered(logits: np.ndarray, square: tuple[float, float, float], face: Box, shape: tuple[int, int]) -> float:
    """Share of the inner face (its middle, inside the frame) that the mask holds."""
    x0, y0, x1, y1 = face
    inset_x, inset_y = 0.25 * (x1 - x0), 0.25 * (y1 - y0)
    x0, x1 = max(x0 + inset_x, 0.0), min(x1 - inset_x, float(shape[1]))
    y0, y1 = max(y0 + inset_y, 0.0), min(y1 - inset_y, float(shape[0]))
    if x1 <= x0 or y1 <= y0:
        return 0.0
    scale = GRID / square[2]
    columns = slice(max(int((x0 - square[0]) * scale), 0), max(math.ceil((x1 - square[0]) * scale), 0))
    rows = slice(max(int((y0 - square[1]) * scale), 0), max(math.ceil((y1 - square[1]) * scale), 0))
    inner = logits[rows, columns]
    return float((inner > 0).mean()) if inner.size else 0.0


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
