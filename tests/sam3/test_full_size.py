"""SAM 3 at its full size, 860 million random weights on the CPU: minutes and about 14 GB; asked for by name only.

pytest tests/sam3/test_full_size.py -s
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from transformers import Sam3VideoConfig, Sam3VideoModel
from transformers.initialization import no_init_weights

from streamer.vision.engines.base import Picture
from streamer.vision.engines.sam3.association import overlap
from streamer.vision.engines.sam3.engine import Sam3Models
from streamer.vision.engines.sam3.loading import load_meta
from streamer.vision.engines.sam3.meta import MetaNetwork
from streamer.vision.engines.sam3.network import Network
from streamer.vision.engines.sam3.options import Sam3Options
from tests.sam3 import meta_tiny, tiny
from tests.sam3.test_meta import Tokens

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


def test_metas_checkpoint_is_loaded_and_finds_what_transformers_finds(tmp_path: Path) -> None:
    pytest.importorskip("sam3", reason="backend meta needs Meta's package")
    from sam3.model_builder import build_sam3_video_model

    clock = Clock()
    vocabulary = meta_tiny.vocabulary(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with meta_tiny.cpu_shim():
        made = build_sam3_video_model(load_from_HF=False, bpe_path=str(vocabulary), device="cpu")
        meta_tiny.shake(made.detector, made.tracker)
        torch.save({"model": made.state_dict()}, tmp_path / "sam3.pt")
        del made
        clock.say("a checkpoint made and saved")
        meta = load_meta(tmp_path, OPTIONS)
        (tmp_path / "sam3.pt").unlink()
        clock.say("backend meta loaded it")
        meta.tracker_model.use_memory_selection = False
        config = Sam3VideoConfig()
        for vision in (config.detector_config.vision_config, config.tracker_config.vision_config):
            vision.backbone_config.layer_norm_eps = 1e-5
        with no_init_weights():
            model = Sam3VideoModel(config).eval()
        state = meta_tiny.transformers_state(meta.detector, meta.tracker_model)
        missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
        assert unexpected == []
        assert set(missing) <= {"detector_model.text_encoder.text_projection.weight"}
        own = Network(model, Tokens(meta.detector.backbone.language_backbone.tokenizer), OPTIONS)
        clock.say("transformers has the same weights")
        with torch.inference_mode(), meta_tiny.logits_resized_first(meta.tracker_model):
            compare(meta, own, clock)


def compare(meta: MetaNetwork, own: Network, clock: Clock) -> None:
    """The box's object and the instances of a concept on one picture, and the object on the next ones."""
    trackers = meta.tracker(), own.tracker()
    for index in range(FRAMES):
        seen = []
        for network, tracker in zip((meta, own), trackers, strict=True):
            (features,) = network.encode([picture(index).bgr])
            tracker.begin(features)
            tracked = tracker.seed("a", box=BOX) if index == 0 else tracker.track(["a"])[0]
            seen.append(
                (tracked.logits[0].float(), network.find(features, ["person"])["person"] if not index else None)
            )
            clock.say(f"frame {index}, {type(network).__name__}")
        (one, people), (other, same) = seen
        print(f"masks differ by {(one - other).abs().max().item():.1e} of {one.std().item():.2f}", flush=True)
        assert float(overlap((one > 0).numpy(), (other > 0).numpy()[None])[0]) > 0.99
        torch.testing.assert_close(one, other, atol=1e-2, rtol=0)
        if people is not None and same is not None:
            np.testing.assert_allclose(people.scores, same.scores, atol=1e-3)
            torch.testing.assert_close(people.logits, same.logits, atol=1e-2, rtol=0)
