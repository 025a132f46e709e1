"""SAM 3 at its full size, 860 million random weights on the CPU: minutes and about 5 GB; asked for by name only.

pytest tests/sam3/test_full_size.py -s
"""

from __future__ import annotations

import time

import cv2
import numpy as np
import psutil
import pytest
import torch
from transformers import Sam3VideoConfig, Sam3VideoModel

from streamer.vision.engines.base import Picture
from streamer.vision.engines.sam3.engine import Sam3Models
from streamer.vision.engines.sam3.network import Network
from streamer.vision.engines.sam3.options import Sam3Options
from tests.sam3 import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
OPTIONS = Sam3Options(device="cpu", dtype="float32", compile=False, channels_last=False, score_threshold=0.0)
HEIGHT, WIDTH = 360, 640
FRAMES = 2
BOX = (200.0, 60.0, 420.0, 340.0)


def picture(index: int) -> Picture:
    random = np.random.default_rng(3)
    coarse = random.integers(0, 255, (24, 48, 3), dtype=np.uint8)
    large = cv2.resize(coarse, None, fx=20, fy=20, interpolation=cv2.INTER_CUBIC)
    return Picture(np.ascontiguousarray(large[:HEIGHT, 4 * index : 4 * index + WIDTH]), index, index / 30)


class Clock:
    """Says what each step took."""

    def __init__(self) -> None:
        torch.set_num_threads(psutil.cpu_count(logical=False) or 1)
        self._process = psutil.Process()
        self._began = self._now()

    def _now(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return time.monotonic(), times.user + times.system

    def say(self, what: str) -> None:
        now = self._now()
        wall, cpu = (after - before for after, before in zip(now, self._began, strict=True))
        print(f"\n{what}: {wall:.1f} s, {cpu:.1f} s of CPU, {self._process.memory_info().rss / 1e9:.2f} GB", flush=True)
        self._began = self._now()


def test_a_few_frames_through_the_port() -> None:
    clock = Clock()
    torch.manual_seed(0)
    model = Sam3VideoModel(Sam3VideoConfig()).eval()
    tiny.enliven(model.tracker_model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 0.8e9 < parameters < 0.9e9
    models = Sam3Models(Network(model, tiny.tokenizer(), OPTIONS))
    assert models.network.image_size == 1008
    engine = models.engine()
    clock.say(f"{parameters / 1e6:.0f} million weights made")
    held = []
    for index in range(FRAMES):
        engine.encode(picture(index))
        clock.say(f"frame {index} encoded")
        if index == 0:
            engine.prompt(1, face_xyxy=(300.0, 90.0, 340.0, 140.0))
            engine.prompt(2, box_xyxy=BOX)
        regions = engine.propagate([1, 2])
        assert set(regions) == {1, 2}
        for region in regions.values():
            assert region.logits.shape == (288, 288)
            assert np.isfinite(region.logits).all()
        clock.say(f"frame {index}: two people {'found and seeded' if index == 0 else 'propagated'}")
        tensors = engine.tensors()
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        held.append(sum(storages.values()))
        print(f"held: {len(tensors)} tensors, {held[-1] / 1e6:.1f} MB", flush=True)
    # Of each object on a frame: 72 x 72 x 64 memories in bfloat16, their positions in float32, a pointer.
    assert (held[-1] - held[-2]) / 2 < 3e6
    if engine.part(1, "shirt") is not None:
        assert (1, "shirt") in engine._scene
    clock.say("shirt sought")
    engine.close()
    assert engine.tensors() == []
