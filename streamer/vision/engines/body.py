"""One person as BlazePose sees them: the square that is looked at, what is found in it, and where the face is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.tracks import Box

GRID = 256
"""Pixels a side of the network's input and of its mask."""
VIEWS: tuple[tuple[float, float], ...] = ((2.2, 7.0), (1.6, 5.5), (1.1, 4.2), (0.8, 3.2))
"""Squares tried around a face: face heights from the face's centre down to the square's, and the square's side. The
first shows the whole body (MediaPipe's proportions); in a crowd the network settles on a neighbour there, and a tighter
view is right where a wide one fails."""
SIDE_PER_RADIUS = 2.5
"""The square's side over the distance from the hip centre (landmark 33) to the body circle's rim (34)."""
MAX_JUMP = 0.5
"""Square sides that the centre moves between two frames at most: more is another person."""
MAX_GROWTH = 1.6
"""Ratio between two frames' sizes at most."""
HEAD = slice(0, 11)
"""Landmarks of nose, eyes, ears and mouth."""
HEAD_AWAY = 0.4
"""Face heights between the landmarks' head and the detected face beyond which they are two people's."""
FACE_COVERED = 0.5
"""Share of the inner face that a person's mask must hold, else it is somebody else's."""
FACE_DRIFT = 1.2
"""Ratio that a carried face's height may differ by from the detected one, while the square follows the face."""
Square = tuple[float, float, float]
"""x0, y0, side in pixels of the frame; may reach beyond it."""


@dataclass(frozen=True, slots=True)
class View:
    """What the network said about one square."""

    square: Square
    presence: float
    landmarks: np.ndarray
    """(39, 3) float32: x, y in pixels of the frame, visibility 0..1."""
    logits: np.ndarray
    """(GRID, GRID) float32."""

    @property
    def head(self) -> tuple[float, float]:
        """Middle of the head's landmarks, pixels."""
        x, y = self.landmarks[HEAD, :2].mean(axis=0)
        return float(x), float(y)

    @property
    def hips(self) -> tuple[float, float]:
        """Pixels."""
        return float(self.landmarks[33, 0]), float(self.landmarks[33, 1])

    @property
    def size(self) -> float:
        """Pixels: side of the square that the whole body asks for."""
        return SIDE_PER_RADIUS * math.dist(self.landmarks[33, :2], self.landmarks[34, :2])


@dataclass(slots=True)
class Body:
    """One followed person."""

    face: Box
    """Newest face: found by the detector, then moved along by the landmarks."""
    view: View | None = None
    """Of the newest frame on which the person was found; None: not found yet."""
    level: int = 0
    """Index into `VIEWS` of the square that is followed."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Detected face centre from the landmarks' head, and its height, in units of `View.size`."""
    seen_height: float = 0.0
    """Pixels: height of the newest detected face."""
    misses: int = 0
    spilt: bool = False
    """The newest mask had to be cut back from somebody else."""


def agrees(view: View, face: Box) -> bool:
    """Whether the landmarks' head lies on `face`."""
    x0, y0, x1, y1 = face
    return math.dist(view.head, ((x0 + x1) / 2, (y0 + y1) / 2)) <= HEAD_AWAY * (y1 - y0)


def continues(before: View, now: View) -> bool:
    """Whether `now` can be the person of `before`, one frame later."""
    moved = math.dist(before.hips, now.hips) / max(before.size, 1.0)
    return moved <= MAX_JUMP and 1 / MAX_GROWTH < now.size / max(before.size, 1.0) < MAX_GROWTH


def anchor(body: Body, view: View, face: Box) -> None:
    """Remember where the detected face lies relative to the landmarks."""
    x0, y0, x1, y1 = face
    size = max(view.size, 1.0)
    body.face, body.seen_height = face, y1 - y0
    body.offset = (
        ((x0 + x1) / 2 - view.head[0]) / size,
        ((y0 + y1) / 2 - view.head[1]) / size,
        (y1 - y0) / size,
    )


def carried_face(body: Body, view: View) -> Box:
    """The face where the landmarks have taken it."""
    x0, y0, x1, y1 = body.face
    aspect = (x1 - x0) / max(y1 - y0, 1e-6)
    x, y = view.head[0] + body.offset[0] * view.size, view.head[1] + body.offset[1] * view.size
    height = body.offset[2] * view.size
    if body.level > 0:
        # The square is made from the face, and the person's size is guessed from the square, the hips being outside it:
        # left alone, the two shrink (or grow) together, by half in six frames.
        height = min(max(height, body.seen_height / FACE_DRIFT), body.seen_height * FACE_DRIFT)
    width = height * aspect
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def face_square(face: Box, level: int) -> Square:
    """The square of `VIEWS[level]` around `face`."""
    x0, y0, x1, y1 = face
    drop, sides = VIEWS[level]
    height = y1 - y0
    side = sides * height
    return (x0 + x1) / 2 - side / 2, (y0 + y1) / 2 + drop * height - side / 2, side


def body_square(view: View) -> Square:
    """The square that a person's landmarks ask for."""
    x, y = view.hips
    return x - view.size / 2, y - view.size / 2, view.size


def tensor(bgr: np.ndarray) -> np.ndarray:
    """(1, 3, H, W) float32 RGB 0..1 of an (H, W, 3) uint8 BGR picture."""
    blob: np.ndarray = cv2.dnn.blobFromImage(bgr, 1 / 255, swapRB=True)
    return blob


def crop(bgr: np.ndarray, square: Square) -> np.ndarray:
    """(GRID, GRID, 3) uint8: `square` (x0, y0, side) of the picture; black beyond its edges."""
    x0, y0, side = square
    scale = GRID / side
    height, width = bgr.shape[:2]
    # Shrinking by sampling alone aliases: halve first where the square is much larger than the grid. Halving takes a
    # tenth of the time of averaging to an odd size.
    if scale < 0.3:
        left, top = max(int(x0), 0), max(int(y0), 0)
        right, bottom = min(math.ceil(x0 + side), width), min(math.ceil(y0 + side), height)
        if right - left < 4 or bottom - top < 4:
            return np.zeros((GRID, GRID, 3), np.uint8)
        part, factor = bgr[top:bottom, left:right], 1
        while scale * factor < 0.3 and min(part.shape[:2]) >= 4:
            rows, columns = part.shape[0] // 2, part.shape[1] // 2
            part = cv2.resize(part[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
            factor *= 2
        # A small pixel's centre lies between those of the pixels it was averaged from.
        between = (factor - 1) / 2
        matrix = np.array(
            [
                [scale * factor, 0, scale * (left - x0 + between)],
                [0, scale * factor, scale * (top - y0 + between)],
            ]
        )
        shrunk: np.ndarray = cv2.warpAffine(part, matrix, (GRID, GRID))
        return shrunk
    matrix = np.array([[scale, 0, -scale * x0], [0, scale, -scale * y0]])
    crop: np.ndarray = cv2.warpAffine(bgr, matrix, (GRID, GRID))
    return crop


def square_box(square: Square) -> Box:
    x0, y0, side = square
    return x0, y0, x0 + side, y0 + side


def covered(logits: np.ndarray, square: Square, face: Box, shape: tuple[int, int]) -> float:
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


def _segments(*bones: tuple[int, int]) -> np.ndarray:
    return np.array(bones, np.intp)


_COARSE = 64
"""Pixels a side of the grid on which distances to bodies are computed."""
_BONES = _segments(
    *((11, 12), (11, 23), (12, 24), (23, 24), (11, 13), (13, 15), (12, 14), (14, 16), (15, 19), (16, 20)),
    *((23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (0, 11), (0, 12)),
)
_COLUMN = 5.0
"""Face heights that the body of a face hangs down, where nothing but the face is known."""


def nearer_to_other(body: Body, view: View, other: Body) -> np.ndarray:
    """(GRID, GRID) bool on the grid of `view`: pixels that lie nearer to `other`'s body than to `body`'s.

    Distances count in face heights, and start at the rim of the head: the person in front is larger.
    """
    own = _body_distance(view.square, body.face, view.landmarks)
    theirs = _body_distance(view.square, other.face, None if other.view is None else other.view.landmarks)
    nearer: np.ndarray = cv2.resize(own - theirs, (GRID, GRID), interpolation=cv2.INTER_LINEAR) > 0
    return nearer


def onto(view: View, other: View) -> np.ndarray:
    """(GRID, GRID) float32: the logits of `other` on the grid of `view`; far below 0 where it does not reach."""
    x0, y0, side = view.square
    other_x0, other_y0, other_side = other.square
    scale = side / other_side
    cells = GRID / other_side
    shift_x, shift_y = (x0 - other_x0) * cells, (y0 - other_y0) * cells
    matrix = np.array([[scale, 0, shift_x + 0.5 * scale - 0.5], [0, scale, shift_y + 0.5 * scale - 0.5]])
    moved: np.ndarray = cv2.warpAffine(
        other.logits, matrix, (GRID, GRID), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=-20.0
    )
    return moved


def _body_distance(square: Square, face: Box, landmarks: np.ndarray | None) -> np.ndarray:
    """(_COARSE, _COARSE) float32: distance of each pixel of `square` to a body, in heights of its face."""
    cell = square[2] / _COARSE
    ys, xs = (np.mgrid[0:_COARSE, 0:_COARSE].astype(np.float32) + 0.5) * np.float32(cell)
    xs, ys = xs + np.float32(square[0]), ys + np.float32(square[1])
    x0, y0, x1, y1 = face
    height = max(y1 - y0, 1.0)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    head = np.hypot(xs - x, ys - y) - 0.65 * height
    if landmarks is None:
        starts, ends = np.array([[x, y1]], np.float32), np.array([[x, y + _COLUMN * height]], np.float32)
        # A trunk is about a face height wide to each side; a skeleton's bones already reach into the limbs.
        trunk = _to_bones(xs, ys, starts, ends) - 0.6 * height
    else:
        trunk = _to_bones(xs, ys, landmarks[_BONES[:, 0], :2], landmarks[_BONES[:, 1], :2])
    distance: np.ndarray = np.minimum(head, trunk) / np.float32(height)
    return distance.astype(np.float32)


def _to_bones(xs: np.ndarray, ys: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of n segments; `starts` and `ends` are (n, 2)."""
    along = (ends - starts)[:, :, None, None]
    from_x, from_y = xs[None] - starts[:, 0, None, None], ys[None] - starts[:, 1, None, None]
    length = np.maximum(np.square(along).sum(axis=1), 1e-6)
    share = np.clip((from_x * along[:, 0] + from_y * along[:, 1]) / length, 0, 1)
    distance: np.ndarray = np.hypot(from_x - share * along[:, 0], from_y - share * along[:, 1]).min(axis=0)
    return distance
