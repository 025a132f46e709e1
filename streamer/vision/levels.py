"""Cosines at which a recogniser's word is taken. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Levels:
    """Cosines at which a recogniser's word is taken."""

    level: float
    """Mean similarity that endless evidence must reach."""
    level_extra: float
    """On top with the weight of one perfect look; falls with the square root of the weight (noise of the mean)."""
    lead: float
    """Mean lead over the runner-up that endless evidence must reach."""
    lead_extra: float
    """On top with the weight of one perfect look."""
    unclear_extra: float
    """On top for faces that are all blur or a few pixels: such faces resemble each other, whoever they are."""
    hold: float
    """A name is kept while the mean similarity is no further than this below its level."""
    stranger: float
    """A clear frontal look below this says that the track is not (or no longer) that member."""


EMBEDDED_LEVELS = Levels(0.49, 0.10, 0.06, 0.08, 0.12, 0.15, 0.15)
"""SCRFD + MobileFaceNet (192-d): same person 0.72-0.82 +- 0.09 (min 0.54), others 0.00-0.03 +- 0.14, look-alikes up to
0.42-0.49, one small stranger 0.52. A single perfect look is taken from 0.59 on."""
BUFFALO_LEVELS = Levels(0.37, 0.09, 0.05, 0.07, 0.10, 0.12, 0.10)
"""InsightFace w600k (512-d): FAR 1e-6 sits at cosine 0.408; one look 0.46."""


def levels_for(model_id: str) -> Levels:
    """Levels of the recogniser `model_id` (see `ModelStore.model_id`); an unknown one gets the stricter ones."""
    return BUFFALO_LEVELS if model_id.startswith("w600k") else EMBEDDED_LEVELS
