"""Parts of a person from landmarks: what the lite engine answers to an object prompt.

Every pixel of the person belongs to the nearest piece of the skeleton; garments are groups of pieces. Colour decides
where the skeleton cannot: bare arms and necks (skin as on the face), long hair (as above the forehead).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import onnxruntime

from streamer.errors import PromptUnsupported
from streamer.tracks import Box

PARTS: dict[str, tuple[str, ...]] = {
    "face": ("faces",),
    "hair": ("hairs", "hairstyle", "haircut"),
    "head": ("heads",),
    "top": (
        *("shirt", "t-shirt", "tshirt", "t shirt", "tee", "blouse", "sweater", "pullover", "jumper", "hoodie"),
        *("jacket", "coat", "blazer", "vest", "cardigan", "upper body", "tops", "shirts"),
    ),
    "trousers": (*("pants", "jeans", "shorts", "skirt", "leggings", "slacks", "trouser", "lower body", "legs"),),
    "clothes": ("clothing", "outfit", "dress", "suit", "costume", "gown", "garment", "uniform"),
    "shoes": ("shoe", "boots", "boot", "sneakers", "sneaker", "heels", "sandals", "feet", "foot", "footwear"),
    "hands": ("hand", "fingers"),
}
"""Parts and their synonyms."""
_CANONICAL = {word: part for part, words in PARTS.items() for word in (part, *words)}

COARSE = 64
"""Pixels a side of the grid on which distances to the skeleton are computed."""
OUTSIDE = -8.0
"""Logit where a part is not."""
SOFTNESS = 40.0
"""Logits per body unit of distance beyond the border between two pieces."""
SKIN_CHROMA = 9.0
"""Distance in Cr and Cb from the face's median within which a pixel is skin."""
OVAL = [
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
]
"""Points of the face mesh around the face (MediaPipe's FACEMESH_FACE_OVAL)."""

Segment = tuple[int, int, float]
"""Two landmarks of BlazePose and the limb's radius in body units (shoulder widths)."""
_ARMS: list[Segment] = [(11, 13, 0.18), (12, 14, 0.18), (13, 15, 0.14), (14, 16, 0.14)]
_HANDS: list[Segment] = [(15, 17, 0.1), (15, 19, 0.1), (15, 21, 0.1), (16, 18, 0.1), (16, 20, 0.1), (16, 22, 0.1)]
_LEGS: list[Segment] = [(23, 25, 0.25), (24, 26, 0.25), (25, 27, 0.18), (26, 28, 0.18)]
_FEET: list[Segment] = [(27, 29, 0.1), (27, 31, 0.1), (29, 31, 0.1), (28, 30, 0.1), (28, 32, 0.1), (30, 32, 0.1)]
WAIST = 0.88
"""Where trousers begin, on the way from the shoulders to the hip joints."""


def canonical(phrase: str) -> str:
    """The part of `PARTS` that `phrase` means.

    Raises:
        PromptUnsupported: with what can be asked for, and which engine answers anything.
    """
    part = _CANONICAL.get(" ".join(phrase.lower().split()))
    if part is None:
        raise PromptUnsupported(
            f"the lite engine cannot segment {phrase!r}: it knows {', '.join(PARTS)} (and synonyms such as shirt, "
            "pants, dress); engine sam3 answers any phrase"
        )
    return part


class PartReader:
    """Parts of one person at a time. Holds the face mesh session, no state."""

    def __init__(self, mesh: onnxruntime.InferenceSession) -> None:
        self._mesh = mesh

    def read(
        self,
        part: str,
        bgr: np.ndarray,
        square: tuple[float, float, float],
        person: np.ndarray,
        landmarks: np.ndarray,
        face: Box,
    ) -> np.ndarray | None:
        """(g, g) float32 logits of `part` (a key of `PARTS`) on the grid of `person`, the person's (g, g) logits.

        `square` is x0, y0, side of the grid in pixels of the (H, W, 3) picture `bgr`, `landmarks` (39, 3) x, y pixels.
        None where no pixel of the person belongs to it.
        """
        grid = person.shape[0]
        scale = grid / square[2]
        points = (landmarks[:, :2] - np.asarray(square[:2], np.float32)) * np.float32(scale)
        x0, y0, x1, y1 = face
        small_face = (
            (x0 - square[0]) * scale,
            (y0 - square[1]) * scale,
            (x1 - square[0]) * scale,
            (y1 - square[1]) * scale,
        )
        crop = _crop(bgr, square, grid)
        inside = person > 0
        if part in ("face", "hair", "head"):
            oval = self._oval(bgr, face, square, grid)
            within = _head_part(part, crop, inside, oval, points, small_face)
        else:
            within = _body_part(part, crop, inside, points, small_face)
        logits = np.minimum(person, within)
        return logits if bool((logits > 0).any()) else None

    def _oval(self, bgr: np.ndarray, face: Box, square: tuple[float, float, float], grid: int) -> np.ndarray:
        """(g, g) bool: the face without hair and neck, from the mesh; an ellipse where the mesh sees no face."""
        x0, y0, x1, y1 = face
        side = 1.5 * max(x1 - x0, y1 - y0)
        corner = ((x0 + x1) / 2 - side / 2, (y0 + y1) / 2 - side / 2, side)
        blob = cv2.dnn.blobFromImage(_crop(bgr, corner, 256), 1 / 255, swapRB=True)
        mesh, presence = self._mesh.run(["landmarks", "presence"], {self._mesh.get_inputs()[0].name: blob})
        filled = np.zeros((grid, grid), np.uint8)
        scale = grid / square[2]
        if float(presence.ravel()[0]) > 0:
            points = mesh.reshape(478, 3)[OVAL, :2] * (side / 256) + np.asarray(corner[:2], np.float32)
            polygon = (points - np.asarray(square[:2], np.float32)) * np.float32(scale)
            cv2.fillPoly(filled, [np.round(polygon * 16).astype(np.int32)], 1, shift=4)
        else:
            centre = (((x0 + x1) / 2 - square[0]) * scale, ((y0 + y1) / 2 - square[1]) * scale)
            axes = (max((x1 - x0) / 2 * scale, 1.0), max((y1 - y0) / 2 * scale, 1.0))
            cv2.ellipse(filled, (centre, (2 * axes[0], 2 * axes[1]), 0.0), 1, -1)
        return filled.astype(bool)


def _body_part(part: str, crop: np.ndarray, inside: np.ndarray, points: np.ndarray, face: Box) -> np.ndarray:
    """(g, g) float32: how clearly each pixel belongs to `part` and to no other piece of the skeleton."""
    pieces = _distances(points, face, inside.shape[0])
    groups = {
        "top": ("torso", "arms"),
        "trousers": ("legs",),
        "clothes": ("torso", "arms", "legs"),
        "shoes": ("feet",),
        "hands": ("hands",),
    }
    mine = np.minimum.reduce([pieces[name] for name in groups[part]])
    other = np.minimum.reduce([distance for name, distance in pieces.items() if name not in groups[part]])
    within = cv2.resize((other - mine) * SOFTNESS, inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if part in ("top", "trousers", "clothes"):
        bare = cv2.resize(pieces["torso core"], inside.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0
        within = np.where(_like_skin(crop, inside, face) & bare, OUTSIDE, within)
    clipped: np.ndarray = np.clip(within, OUTSIDE, -OUTSIDE).astype(np.float32)
    return clipped


def _distances(points: np.ndarray, face: Box, grid: int) -> dict[str, np.ndarray]:
    """Distance of each coarse pixel to each piece less the piece's radius, in body units; (COARSE, COARSE) each."""
    scaled = points * (COARSE / grid)
    shoulders, hips = (scaled[11] + scaled[12]) / 2, (scaled[23] + scaled[24]) / 2
    # Seen from the side the shoulders fall together: the torso's length stands in.
    unit = max(math.dist(scaled[11], scaled[12]), 0.55 * math.dist(shoulders, hips), 1.0)
    ys, xs = np.mgrid[0:COARSE, 0:COARSE].astype(np.float32) + 0.5

    def limbs(segments: list[Segment]) -> np.ndarray:
        each = [_to_segment(xs, ys, scaled[a], scaled[b]) / unit - r for a, b, r in segments]
        nearest: np.ndarray = np.minimum.reduce(each)
        return nearest

    mouth = (scaled[9] + scaled[10]) / 2
    waist = [scaled[11] + WAIST * (scaled[23] - scaled[11]), scaled[12] + WAIST * (scaled[24] - scaled[12])]
    torso = _to_polygon(np.stack([scaled[11], scaled[12], waist[1], waist[0]])) / unit
    pelvis = _to_polygon(np.stack([waist[0], waist[1], scaled[24], scaled[23]])) / unit
    head = np.array([(face[0] + face[2]) / 2, (face[1] + face[3]) / 2], np.float32) * (COARSE / grid)
    radius = 0.62 * (face[3] - face[1]) * COARSE / grid / unit
    neck = _to_segment(xs, ys, mouth, mouth + 0.75 * (shoulders - mouth)) / unit - 0.14
    return {
        "head": np.minimum(_to_segment(xs, ys, head, head) / unit - radius, neck),
        "torso": torso - 0.12,
        "arms": limbs(_ARMS),
        "hands": limbs(_HANDS),
        "legs": np.minimum(limbs(_LEGS), pelvis - 0.12),
        "feet": limbs(_FEET),
        # The middle of the torso is clothed whatever its colour: only arms and the neckline can be bare.
        "torso core": _to_polygon(
            np.stack([(p + 0.3 * (q - p)) for p, q in ((scaled[11], waist[0]), (scaled[12], waist[1]))] + waist[::-1])
        ),
    }


def _to_segment(xs: np.ndarray, ys: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    length = max(float((b - a) @ (b - a)), 1e-6)
    along = np.clip(((xs - a[0]) * (b[0] - a[0]) + (ys - a[1]) * (b[1] - a[1])) / length, 0, 1)
    distance: np.ndarray = np.hypot(xs - (a[0] + along * (b[0] - a[0])), ys - (a[1] + along * (b[1] - a[1])))
    return distance


def _to_polygon(corners: np.ndarray) -> np.ndarray:
    """Distance to a filled polygon on the coarse grid; 0 inside."""
    filled = np.ones((COARSE, COARSE), np.uint8)
    cv2.fillPoly(filled, [np.round(corners * 16).astype(np.int32)], 0, shift=4)
    if filled.all():
        ys, xs = np.mgrid[0:COARSE, 0:COARSE].astype(np.float32) + 0.5
        return _to_segment(xs, ys, corners[0], corners[2])
    distance: np.ndarray = cv2.distanceTransform(filled, cv2.DIST_L2, 3)
    return distance


def _head_part(
    part: str, crop: np.ndarray, inside: np.ndarray, oval: np.ndarray, points: np.ndarray, face: Box
) -> np.ndarray:
    """(g, g) float32 logits of face, hair or head."""
    if part == "face":
        return _soft(oval)
    hair = _hair(crop, inside, oval, points, face)
    return _soft(hair if part == "hair" else hair | oval)


def _hair(crop: np.ndarray, inside: np.ndarray, oval: np.ndarray, points: np.ndarray, face: Box) -> np.ndarray:
    """(g, g) bool: what is not face on the head, and what hangs from it in the colour it has above the forehead."""
    x0, y0, x1, y1 = face
    width, height, middle = x1 - x0, y1 - y0, (x0 + x1) / 2
    ys, xs = np.mgrid[0 : inside.shape[0], 0 : inside.shape[1]].astype(np.float32) + 0.5
    around = inside & ~cv2.dilate(oval.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    beside = np.abs(xs - middle) < 1.1 * width
    head: np.ndarray = around & beside & (ys > y0 - 1.2 * height) & (ys < y0 + 0.75 * height)
    crown = head & (ys < y0 + 0.15 * height)
    if np.count_nonzero(crown) < 12:
        return head
    lab = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB).astype(np.float32)
    colours = {"hair": _median(lab, crown), "skin": _median(lab, _cheeks(oval, face))}
    chest = (
        inside
        & (np.abs(xs - points[[11, 12], 0].mean()) < 0.8 * width)
        & (ys > points[[11, 12], 1].mean() + 0.3 * height)
    )
    if chest.sum() >= 12:
        colours["clothes"] = _median(lab, chest)
    names = [name for name, colour in colours.items() if colour is not None]
    away = np.stack([np.linalg.norm(lab - colours[name], axis=2) for name in names])
    like_hair = (np.argmin(away, axis=0) == names.index("hair")) if "hair" in names else np.zeros_like(inside)
    hanging = around & (np.abs(xs - middle) < 1.2 * width) & (ys >= y0 + 0.4 * height) & (ys < y1 + 1.6 * height)
    found = (head & (like_hair | (ys < y0))) | (hanging & like_hair & (away[names.index("hair")] < 45))
    return _joined(found, crown)


def _joined(found: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The components of `found` that touch `seed`, smoothed."""
    smooth = cv2.medianBlur(found.astype(np.uint8), 3)
    _, components = cv2.connectedComponents(smooth, connectivity=8)
    touched = np.unique(components[seed])
    joined: np.ndarray = np.isin(components, touched[touched > 0])
    return joined


def _cheeks(oval: np.ndarray, face: Box) -> np.ndarray:
    """(g, g) bool: the middle of the face, between eyes and mouth, where it is neither hair nor beard nor hat."""
    x0, y0, x1, y1 = face
    width, height = x1 - x0, y1 - y0
    cheeks = np.zeros_like(oval)
    rows = slice(max(int(y0 + 0.4 * height), 0), max(int(y0 + 0.75 * height), 0))
    columns = slice(max(int(x0 + 0.2 * width), 0), max(int(x1 - 0.2 * width), 0))
    cheeks[rows, columns] = True
    return cheeks


def _like_skin(crop: np.ndarray, inside: np.ndarray, face: Box) -> np.ndarray:
    """(g, g) bool: pixels of the face's colour."""
    ycc = cv2.cvtColor(crop, cv2.COLOR_BGR2YCrCb).astype(np.float32)
    skin = _median(ycc, _cheeks(inside, face) & inside)
    if skin is None:
        return np.zeros_like(inside)
    light = ycc[..., 0] / max(float(skin[0]), 1.0)
    near = np.hypot(ycc[..., 1] - skin[1], ycc[..., 2] - skin[2]) < SKIN_CHROMA
    # Near grey, chroma says nothing: black, white and grey cloth would pass for the skin of a dim picture.
    coloured = math.hypot(float(skin[1]) - 128, float(skin[2]) - 128) > 1.2 * SKIN_CHROMA
    like: np.ndarray = near & (light > 0.45) & (light < 1.7) & coloured
    return like


def _median(picture: np.ndarray, where: np.ndarray) -> np.ndarray | None:
    """Median colour, or None for too few pixels."""
    chosen = picture[where]
    if len(chosen) < 6:
        return None
    median: np.ndarray = np.median(chosen, axis=0)
    return median


def _soft(mask: np.ndarray) -> np.ndarray:
    """Logits that pass through 0 at the mask's border."""
    blurred: np.ndarray = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)
    logits: np.ndarray = (blurred - np.float32(0.5)) * np.float32(-2 * OUTSIDE)
    return logits


def _crop(bgr: np.ndarray, square: tuple[float, float, float], grid: int) -> np.ndarray:
    x0, y0, side = square
    scale = grid / side
    crop: np.ndarray = cv2.warpAffine(bgr, np.array([[scale, 0, -scale * x0], [0, scale, -scale * y0]]), (grid, grid))
    return crop
