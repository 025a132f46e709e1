"""The enrolled faces as naming sees them: what the gallery gives and the worker gets. Plain data, numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    @classmethod
    def nobody(cls, model_id: str = "") -> Known:
        """A gallery without a face."""
        return cls(model_id, (), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
