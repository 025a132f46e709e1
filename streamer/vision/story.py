"""What was seen of a track's face and what was concluded from it: the answer to "why this name?". Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.vision.known import PhotoFace


@dataclass(frozen=True, slots=True)
class SeenFace:
    """One face of a track, cut out of its frame."""

    jpeg: bytes
    """The face with hair and some shoulder around it, at most 320 pixels a side."""
    face: PhotoFace
    """Its box is in pixels of `jpeg`."""
    pts_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison with the gallery."""

    pts_seconds: float
    weight: float
    """0..1: what the face was worth as evidence (size, sharpness, pose)."""
    similarity: dict[str, float]
    """Member to cosine, -1..1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of what is said about a track."""

    pts_seconds: float
    name: str | None
    reason: str
    """In a few words: "similarity 0.71, 0.42 ahead of liz", "a contrary face", "told by a person"."""


@dataclass(frozen=True, slots=True)
class TrackStory:
    """Everything kept about one track. Bounded: 5 faces, 120 looks, 30 decisions, the 128 latest tracks of a stream."""

    track_id: int
    model_id: str
    """Of the embeddings in `faces`."""
    name: str | None
    faces: tuple[SeenFace, ...]
    """Best first."""
    looks: tuple[Look, ...]
    """Oldest first."""
    decisions: tuple[Decision, ...]
    """Oldest first."""


def nobody_knows(track_id: int, model_id: str) -> TrackStory:
    """The story of a track that no face was seen of."""
    return TrackStory(track_id, model_id, None, (), (), ())
