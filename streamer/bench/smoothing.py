"""`streamer bench smoothing`: the live path over a clip, its masks before and after smoothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamer.evaluation.steadiness import Steadiness
from streamer.frames import planes
from streamer.ingest.files import read_frames
from streamer.service.settings import Settings
from streamer.vision.engines.base import Region
from streamer.vision.labels import ZERO, place
from streamer.vision.loading import build_models
from streamer.vision.smoothing import Smoother

Tell = Callable[[str], None]


class _Watched(Smoother):
    """Smooths as the live path does, keeps both regions of each track of the frame, and counts the time it takes."""

    def __init__(self, strength: float) -> None:
        super().__init__(strength)
        self.raw: dict[int, Region] = {}
        self.smoothed: dict[int, Region] = {}
        self.was_cut = False
        self.cpu_seconds = 0.0

    def step(self, key: object, region: Region) -> Region:
        began = time.thread_time()
        result = super().step(key, region)
        self.cpu_seconds += time.thread_time() - began
        if isinstance(key, int):
            self.raw[key], self.smoothed[key] = region, result
        return result

    def forget(self, key: object) -> None:
        super().forget(key)
        if isinstance(key, int):
            self.raw.pop(key, None)
            self.smoothed.pop(key, None)

    def reset(self) -> None:
        super().reset()
        self.was_cut = True


def smoothing(clip: Path, settings: Settings, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Flicker and overlap of raw and smoothed masks of everybody in `clip`, at the strength of the settings.

    Raises:
        ModelMissing, VisionUnavailable: the models cannot be had.
        SourceUnusable: the clip cannot be read.
    """
    models = build_models(settings.vision, settings.data_folder, tell)
    watched = _Watched(settings.vision.smoothing)
    processor = models.processor(smoother=watched)
    steadiness = Steadiness()
    frames = masks = 0
    for frame in read_frames(clip, (settings.video.max_width, settings.video.max_height)):
        watched.raw, watched.smoothed, watched.was_cut = {}, {}, False
        processor.step(frame)
        if watched.was_cut:
            steadiness.cut()
        luma = planes(frame.i420)[0]
        raw, smoothed = (
            {track: painted(region, luma.shape) for track, region in regions.items()}
            for regions in (watched.raw, watched.smoothed)
        )
        steadiness.step(luma, raw, smoothed)
        frames, masks = frames + 1, masks + len(raw)
        if frames % 10 == 0:
            tell(f"{clip.name}: frame {frames}")
    processor.close()
    return {
        "clip": clip.name,
        "engine": settings.vision.engine,
        "strength": settings.vision.smoothing,
        "frames": frames,
        "masks": masks,
        **steadiness.report(),
        "cpu_ms_per_frame": 1000 * watched.cpu_seconds / max(frames, 1),
    }


def painted(region: Region, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool: the mask as the label map would show it, were nobody else there."""
    mask = np.zeros(shape, bool)
    placed = place(region, shape)
    if placed is not None:
        rows, columns, logits = placed
        mask[rows, columns] = logits > ZERO
    return mask
