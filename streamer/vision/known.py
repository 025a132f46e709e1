"""The enrolled faces as naming sees them: what the gallery gives and the worker gets. Plain data, numpy only."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streamer.tracks import Box


@dataclass(frozen=True, slots=True)
class Known:
    """Enrolled faces of one embedding model. It crosses the process border."""

    model_id: str
    """The model that made the embeddings; embeddings of different models are never compared."""
    names: tuple[str, ...]
    """Members, each once."""
    owners: np.ndarray
    """(n,) int64: row i of `embeddings` belongs to `names[owners[i]]`."""
    embeddings: np.ndarray
    """(n, d) float32 unit rows."""
    rejected_owners: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(k,) int64: row i of `rejected` is a face of which a person said that it is *not* `names[rejected_owners[i]]`."""
    rejected: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(k, d) float32 unit rows."""

    @classmethod
    def nobody(cls, model_id: str = "") -> Known:
        """A gallery without a face."""
        return cls(model_id, (), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))

    def with_a_face(self) -> frozenset[str]:
        """Members who can be recognised at all."""
        return frozenset(self.names[owner] for owner in np.unique(self.owners))


@dataclass(frozen=True, slots=True)
class PhotoFace:
    """One face of a photo, as enrolment judges it. It crosses the process border."""

    box_xyxy: Box
    """Pixels of the picture that was read."""
    score: float
    """0..1, the detector's."""
    embedding: np.ndarray
    """(d,) float32, unit length."""
    sharpness: float
    """Variance of the Laplacian on the aligned grey face: below about 30 badly blurred, above 100 sharp."""
    yaw: float
    """Rough, from the five keypoints: 0 frontal, -1 and 1 the profiles."""


@dataclass(frozen=True, slots=True)
class PhotoReading:
    """What the vision side sees in one photo."""

    model_id: str
    """The model that made the embeddings."""
    width: int
    """Pixels of the picture that was read; the faces' boxes are in it."""
    height: int
    faces: tuple[PhotoFace, ...]
