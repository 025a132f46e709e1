"""The enrolled faces, prepared for comparing: how near a probe is to every member, and how near it must be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from streamer.vision.known import Known
from streamer.vision.levels import Levels

GROUP_GAP = 0.05
"""A member's level lies this far above the similarity of the other members to them: they are its nearest negatives."""
GROUP_CEILING = 0.80
"""No level is raised above this by the group; beyond it only the lead tells members apart."""
COMFORTABLE_MEMBERS = 8
GALLERY_EXTRA = 0.015
"""For each doubling of the members beyond `COMFORTABLE_MEMBERS`: the best of many strangers is a better stranger."""
LONE_EXTRA = 0.02
"""For a gallery of one: there is no runner-up to lead."""
REJECTED_GAP = 0.05
"""A probe is not a member whom it resembles by no more than this above what it resembles a rejected face of theirs."""
_BLOCK = 256
"""Photos that are compared with all others at once: one by one it takes seconds for some thousands."""


@dataclass(slots=True)
class Templates:
    """`Known`, prepared for comparing. Members' scores are half the best photo's, half the centroid's."""

    known: Known
    levels: Levels
    margin: float = 0.0
    """Added to the level of every member: what calibration on one's own data found."""
    centroids: np.ndarray = field(init=False)
    """(m, d) unit rows."""
    level: np.ndarray = field(init=False)
    """(m,) the level of each member, raised where the group crowds them."""

    def __post_init__(self) -> None:
        known = self.known
        dimension = known.embeddings.shape[1] if known.embeddings.size else 0
        members = len(known.names)
        self.centroids = np.zeros((members, dimension), np.float32)
        for member in range(members):
            rows = known.embeddings[known.owners == member]
            if len(rows):
                mean = rows.mean(axis=0)
                self.centroids[member] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        self.level = self._calibrate()

    def scores(self, embedding: np.ndarray) -> np.ndarray:
        """(m,) similarity of an embedding (or of a mean of embeddings) to every member; -1 for one without photos."""
        best = np.full(len(self.known.names), -1.0)
        if not self.known.embeddings.size:
            return best
        np.maximum.at(best, self.known.owners, self.known.embeddings @ embedding)
        with_photos = best > -1.0
        scores: np.ndarray = np.where(with_photos, (best + self.centroids @ embedding) / 2, -1.0)
        return scores

    def claims(self, embedding: np.ndarray) -> np.ndarray:
        """(m,) `scores`, but -1 for whom a person said that somebody with such a face is not."""
        scores = self.scores(embedding)
        if not self.known.rejected.size:
            return scores
        refused = np.full(len(scores), -1.0)
        np.maximum.at(refused, self.known.rejected_owners, self.known.rejected @ embedding)
        # Both sides are cosines to the same probe, so this holds for a mean of embeddings as well, however short it is.
        length = min(float(np.linalg.norm(embedding)), 1.0)
        claims: np.ndarray = np.where((refused > 0) & (refused >= scores - REJECTED_GAP * length), -1.0, scores)
        return claims

    def _calibrate(self) -> np.ndarray:
        members = len(self.known.names)
        base = self.levels.level
        if members == 1:
            base += LONE_EXTRA
        elif members > COMFORTABLE_MEMBERS:
            base += GALLERY_EXTRA * math.log2(members / COMFORTABLE_MEMBERS)
        # How near a photo of another member comes is how near a stranger of the same kind will come.
        crowded: np.ndarray = np.minimum(self._nearest_other() + GROUP_GAP, GROUP_CEILING)
        level: np.ndarray = np.maximum(base, crowded) + self.margin
        return level

    def _nearest_other(self) -> np.ndarray:
        """(m,) the highest of `scores` that a photo of anybody else has; -1 where there is none."""
        nearest = np.full(len(self.known.names), -1.0)
        order = np.argsort(self.known.owners, kind="stable")
        owners, photos = self.known.owners[order], self.known.embeddings[order]
        members, first = np.unique(owners, return_index=True)
        for start in range(0, len(photos), _BLOCK):
            block = photos[start : start + _BLOCK]
            best = np.maximum.reduceat(block @ photos.T, first, axis=1)
            scores = (best + block @ self.centroids[members].T) / 2
            scores[owners[start : start + _BLOCK, None] == members] = -1.0
            nearest[members] = np.maximum(nearest[members], scores.max(axis=0))
        return nearest
