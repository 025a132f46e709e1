"""What a user may choose about the SAM 3 engine. No torch here: settings and `doctor` read this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamer.errors import ConfigError

Backend = Literal["transformers", "meta"]
Dtype = Literal["bfloat16", "float16", "float32"]

IMAGE_SIZES = (1008, 672, 336)
"""Pixels a side of the network's input, largest first: multiples of the 336 that its position embedding was trained on.
Also the steps down when the card's memory is full."""


@dataclass(frozen=True, slots=True)
class Sam3Options:
    """Options of one loaded model; streams share it."""

    checkpoint: str = "facebook/sam3"
    """Name on Hugging Face, or the path of a folder in the same layout. A `sam2` or `edgetam` checkpoint tracks as
    well, without concepts."""
    backend: Backend = "transformers"
    device: Literal["cpu", "cuda"] = "cuda"
    dtype: Dtype = "bfloat16"
    image_size: int | None = None
    """Pixels a side; None: the checkpoint's own."""
    compile: bool = True
    """`torch.compile`; the warm-up takes minutes once, before the first stream is ready."""
    max_objects: int = 16
    """People and parts that one stream follows at once; the newest are refused beyond it."""
    channels_last: bool = True
    """Memory layout of convolutions; pays on tensor cores."""
    batch_objects: bool = True
    """Send objects through memory attention together where their memories are equally long."""
    score_threshold: float = 0.5
    """0..1, of a detection."""
    part_refresh_frames: int = 30
    """Frames between two detections of a part ("shirt") that is tracked in between."""

    def __post_init__(self) -> None:
        if self.max_objects < 1:
            raise ConfigError(f"max_objects is {self.max_objects}: at least 1 is needed")
        if self.image_size is not None and self.image_size < 1:
            raise ConfigError(f"image_size is {self.image_size}: use one of {', '.join(map(str, IMAGE_SIZES))}")
