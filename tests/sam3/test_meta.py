"""`backend: meta` against transformers on the same weights: one box-prompted clip, one concept.

Where the two differ by design, it is switched off here:
- memory selection: the package's own (`use_memory_selection`) is off, transformers has none;
- conditioning frames: nothing to switch off; both read the prompted ones, four at most (`max_cond_frames_in_attn`);
- the order in which a mask is resized for the memory (`logits_resized_first`); the last test leaves it on;
- the epsilon of the image encoder's norms, 1e-5 in the package, 1e-6 by default in transformers (`transformers_model`).
A mask prompt is remembered alike; on the prompted frame itself the package answers +-1024, transformers +10 and -10.

The key map between the two is `meta_tiny.DETECTOR_KEYS` and `meta_tiny.TRACKER_KEYS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")
pytest.importorskip("sam3", reason="backend meta needs Meta's package: pip install -e '.[sam3]'")

from streamer.errors import ConfigError, ModelMissing, PromptUnsupported  # noqa: E402
from streamer.vision.engines.base import Picture  # noqa: E402
from streamer.vision.engines.sam3.association import overlap  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.loading import load_meta  # noqa: E402
from streamer.vision.engines.sam3.meta import MetaNetwork  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from tests.sam3 import meta_tiny  # noqa: E402

Pictures = Callable[[int], Picture]
FRAMES = 30
BOX = (20.0, 20.0, 80.0, 90.0)
pytestmark = pytest.mark.filterwarnings("ignore")  # the package's own: torch.jit, autocast without CUDA


class Tokens:
    """The package's tokenizer as transformers' is called: the same numbers go into both text encoders."""

    def __init__(self, tokenizer: object) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, **options: object) -> object:
        from transformers import BatchEncoding

        ids = self._tokenizer([text], context_length=32)  # type: ignore[operator]
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 0).long()})


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MetaNetwork, Network]]:
    options = Sam3Options(device="cpu", dtype="float32", compile=False, channels_last=False, score_threshold=0.0)
    with meta_tiny.cpu_shim():
        detector, tracker = meta_tiny.meta_models(tmp_path_factory.mktemp("vocabulary"))
        meta_tiny.shake(detector, tracker)
        model = meta_tiny.transformers_model()
        missing, unexpected = model.load_state_dict(meta_tiny.transformers_state(detector, tracker), strict=False)
        assert missing == ["detector_model.text_encoder.text_projection.weight"]
        assert unexpected == []
        tokens = Tokens(detector.backbone.language_backbone.tokenizer)
        yield MetaNetwork(detector, tracker, options), Network(model, tokens, options)


@torch.inference_mode()
def clip(
    networks: tuple[MetaNetwork, Network], picture: Pictures, frames: int = FRAMES
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Mask logits of one box-prompted object on each frame, of the package and of transformers."""
    trackers = [network.tracker() for network in networks]
    seen: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for index in range(frames):
        scores = []
        for network, tracker, logits in zip(networks, trackers, seen, strict=True):
            (features,) = network.encode([picture(index).bgr])
            tracker.begin(features)
            tracked = tracker.seed("a", box=BOX) if index == 0 else tracker.track(["a"])[0]
            logits.append(tracked.logits[0].float())
            scores.append(tracked.scores[0].item())
        assert scores[0] == pytest.approx(scores[1], abs=1e-2)
    return seen


def test_a_box_prompted_clip_has_the_same_masks(networks: tuple[MetaNetwork, Network], picture: Pictures) -> None:
    with meta_tiny.logits_resized_first(networks[0].tracker_model):
        meta, own = clip(networks, picture)
    for index, (one, other) in enumerate(zip(meta, own, strict=True)):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0, msg=lambda text, n=index: f"frame {n}: {text}")
        assert 0.05 < (one > 0).float().mean() < 0.95
    # The picture and the memory move the mask by far more than that.
    assert min((one - before).abs().max().item() for before, one in itertools.pairwise(meta)) > 0.1


def test_a_concept_finds_the_same_instances(networks: tuple[MetaNetwork, Network], picture: Pictures) -> None:
    found = []
    for network in networks:
        (features,) = network.encode([picture(0).bgr])
        found.append(network.find(features, ["person", "red shirt"]))
    for concept in ("person", "red shirt"):
        meta, own = found[0][concept], found[1][concept]
        assert len(meta.scores) >= 1
        np.testing.assert_allclose(meta.scores, own.scores, atol=1e-5)
        torch.testing.assert_close(meta.logits, own.logits, atol=1e-4, rtol=0)
        assert meta.masks.any()
    person, shirt = (found[0][concept].scores for concept in ("person", "red shirt"))
    assert len(person) != len(shirt) or np.abs(person - shirt).max() > 1e-3  # the text does matter


def test_scores_hold_the_presence_once(networks: tuple[MetaNetwork, Network], picture: Pictures) -> None:
    """The package's video model puts presence into the scores, its image model leaves that to the caller."""
    network = networks[0]
    (features,) = network.encode([picture(0).bgr])
    joint = network.find(features, ["person"])["person"]
    network.detector.supervise_joint_box_scores = False
    apart = network.find(features, ["person"])["person"]
    network.detector.supervise_joint_box_scores = True
    np.testing.assert_allclose(joint.scores, apart.scores, atol=1e-5)


def test_by_design_only_the_edges_of_what_is_remembered_differ(
    networks: tuple[MetaNetwork, Network], picture: Pictures
) -> None:
    meta, own = clip(networks, picture, 8)
    worst = max((one - other).abs().max().item() for one, other in zip(meta, own, strict=True))
    assert 1e-3 < worst < 0.05
    for one, other in zip(meta, own, strict=True):
        assert float(overlap((one > 0).numpy(), (other > 0).numpy()[None])[0]) > 0.98


def test_a_checkpoint_of_the_package_is_loaded_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package's own builder; only its two encoders are small."""
    import sam3.model_builder as builder

    monkeypatch.setattr(builder, "_create_vision_backbone", lambda **options: meta_tiny.small_neck())
    monkeypatch.setattr(builder, "_create_text_encoder", meta_tiny.small_text)
    options = Sam3Options(device="cpu", dtype="float32", compile=False)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with meta_tiny.cpu_shim():
        made = builder.build_sam3_video_model(
            load_from_HF=False, bpe_path=str(meta_tiny.vocabulary(tmp_path)), device="cpu"
        )
        meta_tiny.shake(made.detector, made.tracker)
        torch.save({"model": made.state_dict()}, tmp_path / "sam3.pt")
        loaded = load_meta(tmp_path, options)
        assert isinstance(loaded, MetaNetwork)
        assert (loaded.family, loaded.image_size, loaded.tracker_model.use_memory_selection) == ("sam3", 1008, True)
        for name, mine in (("detector", loaded.detector), ("tracker", loaded.tracker_model)):
            for key, value in getattr(made, name).state_dict().items():
                assert torch.equal(mine.state_dict()[key], value), key
        assert not any(parameter.requires_grad for parameter in loaded.detector.parameters())
        loaded.check_concept("red shirt")
        (tmp_path / "sam3.pt").write_bytes((tmp_path / "sam3.pt").read_bytes()[:100_000])
        with pytest.raises(ModelMissing, match=r"sam3\.pt cannot be read"):
            load_meta(tmp_path, options)
        with pytest.raises(ConfigError, match="1008 pixels only"):
            load_meta(tmp_path, replace(options, image_size=672))


def test_the_port_on_the_package(networks: tuple[MetaNetwork, Network], picture: Pictures) -> None:
    engines = [Sam3Engine(network, Headroom(network)) for network in networks]
    mask = np.zeros((120, 160), bool)
    mask[30:100, 90:140] = True
    sizes = []
    for index in range(24):
        answers = []
        for engine in engines:
            engine.encode(picture(index))
            if index == 0:
                engine.prompt(1, box_xyxy=BOX)
            if index == 3:  # an object that comes later, beside one that is tracked
                engine.prompt(2, mask=mask)
            if index == 12:
                engine.remove(1)
            answers.append(engine.propagate([1, 2]))
        assert set(answers[0]) == set(answers[1])
        if index != 3:
            for track_id, region in answers[0].items():
                inside, other = region.logits > 0, answers[1][track_id].logits > 0
                assert float(overlap(inside, other[None])[0]) > 0.97
        sizes.append(len(engines[0].tensors()))
    assert sizes[-1] == sizes[-3]
    with pytest.raises(PromptUnsupported, match="tokens long"):
        engines[0].check_phrase("somebody with an extraordinarily long description")
    with pytest.raises(ConfigError, match="only"):
        networks[0].resize(336)
    for engine in engines:
        engine.close()
        engine.close()
        assert engine.tensors() == []


@torch.inference_mode()
def test_with_its_memory_selection_memory_stays_flat_too(
    networks: tuple[MetaNetwork, Network], picture: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks[0].tracker_model, "use_memory_selection", True)
    tracker = networks[0].tracker()
    sizes = []
    for index in range(36):
        (features,) = networks[0].encode([picture(index).bgr])
        tracker.begin(features)
        tracked = tracker.seed("a", box=BOX) if index == 0 else tracker.track(["a"])[0]
        assert torch.isfinite(tracked.logits).all()
        sizes.append(len(tracker.tensors()))
    assert max(sizes[26:]) <= max(sizes[:26])
