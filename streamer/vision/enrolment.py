"""Enrolment: which face of a photo is the member's, and whether it is good enough to know somebody by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Self

import numpy as np

from streamer.errors import GalleryError, PhotoRefused
from streamer.tracks import Box
from streamer.vision import member_name
from streamer.vision.known import Known, PhotoFace, PhotoReading
from streamer.vision.member import NewPhoto
from streamer.vision.photos import DecodedPhoto, thumbnail
from streamer.vision.resemblance import advice, likeness_of

MIN_FACE_PIXELS = 40
"""The face's longer side in the picture that was read; under it embeddings go wrong too often (28 px: 1 in 25)."""
MIN_SHARPNESS = 12.0
"""`PhotoFace.sharpness`; under it embeddings keep little of the person (cosine to the sharp photo mostly below 0.6)."""
SOFT_SHARPNESS = 25.0
"""Under it the photo is kept with a remark: the cosine to the sharp photo is about 0.75."""
MUCH_LARGER = 4.0
"""Times the area of the next face: then the photo is of one person, with others far behind."""
SAME_PERSON_SIMILARITY = 0.5
"""Cosine at which two faces count as one person's where a photo is compared with other members."""
SAME_PICTURE_SIMILARITY = 0.97
"""Cosine at which two faces are one picture, saved twice: the same file cut or compressed again stays above."""
PROFILE_YAW = 0.75
"""`PhotoFace.yaw`; beyond it half the face is hidden and little is learnt from the photo."""

_PICK = re.compile(r"\s*(\d{1,3})\s*|\s*(\d{1,5}(?:\.\d+)?)\s*,\s*(\d{1,5}(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class FacePick:
    """Which of several faces is meant."""

    number: int | None = None
    """1, 2, … from left to right."""
    point: tuple[float, float] | None = None
    """x, y in pixels of the upright photo; the nearest face is meant."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2" or "340,120". Raises `GalleryError` for anything else."""
        match = _PICK.fullmatch(text)
        if match is None or match[1] == "0":
            raise GalleryError(
                f"face {text[:40]!r} is neither a number from the left (1, 2, …) nor a point x,y in pixels"
            )
        return cls(number=int(match[1])) if match[1] else cls(point=(float(match[2]), float(match[3])))


def judge(
    data: bytes,
    decoded: DecodedPhoto,
    reading: PhotoReading,
    *,
    name: str,
    file: str,
    source: str,
    pick: FacePick | None,
    known: Known,
) -> NewPhoto:
    """A photo to store, or the reason why not.

    Args:
        data: The encoded photo as it was given.
        decoded: The same, decoded.
        reading: What vision sees in `decoded.bgr`.
        name: The member that it is for.
        file: Its file name or path, for messages.
        source: Where it comes from ("upload", "cli", "demo", "stream").
        pick: Which of several faces; None: the only one, or one far larger than the rest.
        known: Everybody's faces by the same model, to notice a photo of somebody else.

    Raises:
        PhotoRefused: no face, several faces, too small, too blurred.
    """
    scale = decoded.width / reading.width
    faces = sorted(reading.faces, key=lambda face: _centre(face.box_xyxy)[0])
    face, remark = _choose(faces, pick, scale, file)
    _check_quality(face, scale, file)
    remarks = [remark, *_quality_remarks(face), _likeness_remark(face, name, known)]
    x0, y0, x1, y1 = (value * scale for value in face.box_xyxy)
    return NewPhoto(
        data=data,
        extension=decoded.extension,
        # Where it lay on somebody's machine is not kept.
        file=PurePath(file).name,
        source=source,
        width=decoded.width,
        height=decoded.height,
        face_xyxy=(x0, y0, x1, y1),
        thumbnail=thumbnail(decoded.bgr, face.box_xyxy),
        model_id=reading.model_id,
        face=face,
        remark="; ".join(text for text in remarks if text) or None,
    )


def with_face(known: Known, name: str, embedding: np.ndarray) -> Known:
    """`known` with one more face of `name`: what the next photo of a set that is not stored yet is judged against."""
    if known.names and known.embeddings.shape[1] != embedding.shape[0]:
        return known
    keys = [member_name.key(other) for other in known.names]
    new = member_name.key(name) not in keys
    names = (*known.names, name) if new else known.names
    owner = len(keys) if new else keys.index(member_name.key(name))
    rows = np.concatenate([known.embeddings.reshape(-1, embedding.shape[0]), embedding[None]])
    return replace(known, names=names, owners=np.append(known.owners, owner), embeddings=rows)


def same_face(reading: PhotoReading, photo_width: int, face_xyxy: Box) -> PhotoFace | None:
    """The face of a new reading that lies where an enrolled one lay (pixels of the upright photo); None: missed."""
    scale = photo_width / reading.width
    x0, y0, x1, y1 = (value / scale for value in face_xyxy)
    inside = [
        face
        for face in reading.faces
        if x0 <= _centre(face.box_xyxy)[0] <= x1 and y0 <= _centre(face.box_xyxy)[1] <= y1
    ]
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    return min(inside, key=lambda face: _distance(face.box_xyxy, middle), default=None)


def _choose(faces: Sequence[PhotoFace], pick: FacePick | None, scale: float, file: str) -> tuple[PhotoFace, str | None]:
    if not faces:
        raise PhotoRefused(
            f"{file}: no face was found; use a photo that shows the face from the front and large enough"
        )
    if pick is not None and pick.point is not None:
        point = (pick.point[0] / scale, pick.point[1] / scale)
        return min(faces, key=lambda face: _distance(face.box_xyxy, point)), None
    if pick is not None and pick.number is not None:
        if pick.number > len(faces):
            raise PhotoRefused(f"{file}: there is no face {pick.number}; {_listing(faces, scale)}")
        return faces[pick.number - 1], None
    if len(faces) == 1:
        return faces[0], None
    largest, second = sorted(faces, key=lambda face: -_area(face.box_xyxy))[:2]
    if _area(largest.box_xyxy) >= MUCH_LARGER * _area(second.box_xyxy):
        return largest, f"took the largest of {len(faces)} faces"
    raise PhotoRefused(
        f"{file}: {_listing(faces, scale)}; say which one with face=1…{len(faces)}, or crop the photo to one person"
    )


def _check_quality(face: PhotoFace, scale: float, file: str) -> None:
    side = max(face.box_xyxy[2] - face.box_xyxy[0], face.box_xyxy[3] - face.box_xyxy[1])
    if side < MIN_FACE_PIXELS:
        scaled = " after scaling the photo down" if scale > 1.01 else ""
        raise PhotoRefused(
            f"{file}: the face is {side:.0f} pixels high{scaled}, {MIN_FACE_PIXELS} are needed; "
            "use a closer photo, or crop this one around the face"
        )
    if face.sharpness < MIN_SHARPNESS:
        raise PhotoRefused(
            f"{file}: the face is too blurred (sharpness {face.sharpness:.0f}, {MIN_SHARPNESS:.0f} is needed); "
            "use a sharper photo"
        )


def _quality_remarks(face: PhotoFace) -> list[str]:
    remarks = []
    if face.sharpness < SOFT_SHARPNESS:
        remarks.append("the face is a little blurred; add a sharper photo as well")
    if abs(face.yaw) >= PROFILE_YAW:
        remarks.append("the face is turned far to the side; add a photo from the front as well")
    return remarks


def _likeness_remark(face: PhotoFace, name: str, known: Known) -> str | None:
    """A word where the face is nearer to another member than to its own, or does not fit its own at all."""
    if not known.names or known.embeddings.shape[1] != face.embedding.shape[0]:
        return None
    similarities = known.embeddings @ face.embedding
    own = np.array([member_name.key(other) == member_name.key(name) for other in known.names])[known.owners]
    best_own = float(similarities[own].max()) if own.any() else None
    best_other, other = -1.0, ""
    if not own.all():
        nearest = int(np.argmax(np.where(own, -np.inf, similarities)))
        best_other, other = float(similarities[nearest]), known.names[known.owners[nearest]]
    if best_other >= SAME_PICTURE_SIMILARITY:
        return (
            f"the same picture as one of {other!r} (similarity {best_other:.2f}): "
            "remove it where it shows the wrong person"
        )
    if best_other > SAME_PERSON_SIMILARITY and (best_own is None or best_other > best_own):
        against = f", more than {name!r} ({best_own:.2f})" if best_own is not None else ""
        return (
            f"looks like {other!r} (similarity {best_other:.2f}){against}: check that it shows the right person; "
            f"if it does, recognition may mix the two up: {advice(known.model_id)}"
        )
    if best_own is not None and best_own < likeness_of(known.model_id).stranger:
        rather = f", nearer to {other!r} ({best_other:.2f})" if best_other > best_own else ""
        return (
            f"does not fit the other photos of {name!r} (similarity {best_own:.2f}{rather}): "
            "check that it shows the same person"
        )
    return None


def _listing(faces: Sequence[PhotoFace], scale: float) -> str:
    """ "3 faces, from the left: 1 at 120,80 (64 px), …", in pixels of the upright photo."""
    places = []
    for number, face in enumerate(faces[:8], start=1):
        x, y = _centre(face.box_xyxy)
        height = face.box_xyxy[3] - face.box_xyxy[1]
        places.append(f"{number} at {x * scale:.0f},{y * scale:.0f} ({height * scale:.0f} px)")
    more = ", …" if len(faces) > 8 else ""
    noun = "face" if len(faces) == 1 else "faces"
    return f"{len(faces)} {noun}, from the left: {', '.join(places)}{more}"


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _distance(box: Box, point: tuple[float, float]) -> float:
    x, y = _centre(box)
    return float(np.hypot(x - point[0], y - point[1]))
