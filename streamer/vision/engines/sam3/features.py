"""Image features: computed once a picture, shared by the detector and the tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Features:
    """One picture as the networks see it."""

    maps: list[torch.Tensor]
    """For the tracker: (HW, 1, C) a level, finest first."""
    positions: list[torch.Tensor]
    """Their position encodings, of the same shapes."""
    detector: Any
    """`Sam3VisionEncoderOutput` of batch 1, what the concept detector reads; None where there is no such detector."""
    frame_size: tuple[int, int]
    """(H, W) of the picture in pixels."""
