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
    """Where it came from: "upload", "cli", "demo"."""
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
