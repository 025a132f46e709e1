"""Members and photos as the gallery gives and takes them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.tracks import Box
from streamer.vision.known import PhotoFace


@dataclass(frozen=True, slots=True)
class Photo:
    """One enrolled photo."""

    id: str
    file: str
    """Name of the file as it was given."""
    source: str
    """Where it came from: "upload", "cli", "demo", "stream", "archive", "config"."""
    width: int
    """Pixels, upright."""
    height: int
    bytes: int
    face_xyxy: Box
    """The member's face, in pixels of the upright photo."""
    remark: str | None
    """What enrolment had to say, to be shown beside the photo."""
    added_at: str
    """UTC, ISO 8601."""
    models: tuple[str, ...]
    """Models that embedded this face."""
    extension: str = "img"
    """Of the stored file, without the dot."""


@dataclass(frozen=True, slots=True)
class RejectedFace:
    """A face of which a person said that it is not the member: it weighs against that name from then on."""

    id: str
    source: str
    """Where it was seen: "stream 1a2b3c4d, track 7"."""
    width: int
    """Pixels of the stored crop."""
    height: int
    face_xyxy: Box
    """Pixels of the stored crop."""
    remark: str | None
    added_at: str
    """UTC, ISO 8601."""
    models: tuple[str, ...]
    """Models that embedded this face; under any other one it does not weigh."""


@dataclass(frozen=True, slots=True)
class Member:
    """One person with a name."""

    name: str
    display_name: str
    group: str | None
    consent: str | None
    """A note on the consent of the person, if one was given."""
    created_at: str
    """UTC, ISO 8601."""
    photos: tuple[Photo, ...]
    """Oldest first."""
    rejected: tuple[RejectedFace, ...] = ()
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member to be made."""

    name: str
    display_name: str | None = None
    group: str | None = None
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo that passed enrolment and is to be stored."""

    data: bytes
    """The encoded photo as it was given."""
    extension: str
    file: str
    source: str
    width: int
    """Pixels, upright."""
    height: int
    face_xyxy: Box
    """Pixels of the upright photo."""
    thumbnail: bytes
    """JPEG."""
    model_id: str
    face: PhotoFace
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class NewRejection:
    """A face that is not the member's and is to be stored as such."""

    jpeg: bytes
    """The face cut out, with some surroundings: another model can read it again later."""
    width: int
    """Pixels of `jpeg`."""
    height: int
    source: str
    model_id: str
    face: PhotoFace
    """Its box is in pixels of `jpeg`."""
