"""A checkpoint from a folder into memory, as the worker does it; and what is said where that cannot work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.errors import ConfigError, ModelMissing, VisionUnavailable  # noqa: E402
from streamer.service.settings import Sam3Settings, VisionSettings  # noqa: E402
from streamer.vision.checkpoints import CheckpointStore  # noqa: E402
from streamer.vision.engines.base import Picture  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine, Sam3Models  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.loading import bpe_vocabulary, load_network  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from streamer.vision.loading import build_models  # noqa: E402
from tests.sam3 import tiny  # noqa: E402

Pictures = Callable[[int], Picture]
BOX = (20.0, 20.0, 80.0, 110.0)


def first_mask(network: object, picture: Picture) -> np.ndarray:
    assert isinstance(network, Network)
    engine = Sam3Engine(network, Headroom(network))
    engine.encode(picture)
    engine.prompt(1, box_xyxy=BOX)
    return engine.propagate([1])[1].logits


def test_what_was_saved_is_what_is_loaded(
    checkpoint: Path, network: Network, options: Sam3Options, picture: Pictures
) -> None:
    loaded = load_network(checkpoint, options)
    assert isinstance(loaded, Network)
    assert (loaded.family, loaded.image_size) == ("sam3", tiny.SIZE)
    np.testing.assert_array_equal(first_mask(loaded, picture(0)), first_mask(network, picture(0)))
    with torch.inference_mode():
        (features,), (same,) = loaded.encode([picture(0).bgr]), network.encode([picture(0).bgr])
        one, other = (n.find(f, ["shirt"])["shirt"] for n, f in ((loaded, features), (network, same)))
    np.testing.assert_array_equal(one.scores, other.scores)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize(("family", "make"), [("sam2", tiny.sam2_model), ("edgetam", tiny.edgetam_model)])
def test_trackers_load_too(
    family: str, make: Callable[[], torch.nn.Module], options: Sam3Options, picture: Pictures, tmp_path: Path
) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    loaded = load_network(tmp_path, options)
    assert isinstance(loaded, Network)
    assert loaded.family == family
    np.testing.assert_array_equal(first_mask(loaded, picture(0)), first_mask(Network(model, None, options), picture(0)))
    with pytest.raises(ConfigError, match=f"works at {tiny.OTHER_SIZE} pixels only"):
        load_network(tmp_path, replace(options, image_size=336))


def test_another_input_size_and_another_dtype(checkpoint: Path, options: Sam3Options, picture: Pictures) -> None:
    larger = load_network(checkpoint, replace(options, image_size=2 * tiny.SIZE))
    assert larger.image_size == 2 * tiny.SIZE
    assert first_mask(larger, picture(0)).shape == (64, 64)
    with pytest.raises(ConfigError, match="use a multiple of 112"):
        load_network(checkpoint, replace(options, image_size=120))
    half = load_network(checkpoint, replace(options, dtype="bfloat16"))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    # Positions in bfloat16 would be off by up to a cell.
    tables = [buffer for name, buffer in half.model.named_buffers() if "rope" in name or "rotary" in name]
    assert tables
    assert {table.dtype for table in tables} == {torch.float32}
    assert np.isfinite(first_mask(half, picture(0))).all()


def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_cpu(checkpoint: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    chosen = Sam3Settings(checkpoint=str(checkpoint))
    with pytest.raises(VisionUnavailable, match=r"vision\.device is cuda, but torch .* finds no GPU: check nvidia-smi"):
        build_models(VisionSettings(engine="sam3", device="cuda", sam3=chosen), tmp_path)
    with pytest.raises(VisionUnavailable, match="finds no GPU"):
        load_network(checkpoint, Sam3Options(device="cuda"))


def test_without_the_checkpoint_the_command_that_fetches_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="checkpoint sam3 is not here; run `streamer models pull sam3`"):
        build_models(VisionSettings(engine="sam3"), tmp_path)
    meta = VisionSettings(engine="sam3", sam3=Sam3Settings(backend="meta"))
    with pytest.raises(ModelMissing, match="streamer models pull sam3 --backend meta"):
        build_models(meta, tmp_path)
    for unknown in ("no such thing", str(tmp_path / "nowhere")):
        with pytest.raises(ModelMissing, match="use one of sam3, sam2, edgetam"):
            build_models(VisionSettings(engine="sam3", sam3=Sam3Settings(checkpoint=unknown)), tmp_path)


def test_a_damaged_checkpoint_is_named(checkpoint: Path, options: Sam3Options, tmp_path: Path) -> None:
    store, own = CheckpointStore(tmp_path / "data"), tmp_path / "own"
    shutil.copytree(checkpoint, own)
    weights = own / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ModelMissing, match=r"model\.safetensors is cut off"):
        store.ensure(str(own))
    with pytest.raises(ModelMissing, match="cannot be read"):
        load_network(own, options)
    weights.unlink()
    with pytest.raises(ModelMissing, match=r"there is no model\.safetensors"):
        store.ensure(str(own))
    weights.write_bytes(whole)
    assert store.ensure(str(own)) == own

    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    del state[next(name for name in state if "mask_decoder" in name)]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ModelMissing, match=r"are not whole: 1 are missing, such as .*mask_decoder"):
        load_network(own, options)
    (own / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="is a 'bert'"):
        load_network(own, options)


def test_a_local_folder_becomes_the_stores(checkpoint: Path, options: Sam3Options, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "data")
    with pytest.raises(ModelMissing, match="is no folder"):
        store.take("sam3", tmp_path / "nowhere")
    with pytest.raises(ModelMissing, match=r"there is no config\.json"):
        store.take("sam3", tmp_path)
    folder = store.take("sam3", checkpoint)
    assert store.ensure("sam3") == store.ensure("facebook/sam3") == folder
    assert load_network(folder, options).image_size == tiny.SIZE
    (listed,) = [file for file in store.list() if file.pack == "sam3"]
    assert (listed.status, listed.file) == ("ok", "facebook/sam3")
    assert {file.pack: file.status for file in store.list()} == {"sam3": "ok", "sam2": "missing", "edgetam": "missing"}
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelMissing, match="is missing or cut off; run `streamer models pull sam3`"):
        store.ensure("sam3")
    (folder / "manifest.json").unlink()
    with pytest.raises(ModelMissing, match="its download broke off"):
        store.ensure("sam3")


def test_backend_meta_says_what_it_needs(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs vision\.device cuda"):
        load_network(checkpoint, Sam3Options(device="cpu", backend="meta"))
    store = CheckpointStore(tmp_path)
    with pytest.raises(ModelMissing, match=r"there is no sam3\.pt"):
        store.ensure(str(checkpoint), "meta")


def test_metas_tokenizer_reads_the_checkpoints_vocabulary(tmp_path: Path) -> None:
    tokenizer = pytest.importorskip("sam3.model.tokenizer_ve", reason="backend meta needs Meta's package")
    merges = ["s h", "i r", "sh ir", "shir t</w>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"merges": [pair.split() for pair in merges]}}))
    with bpe_vocabulary(tmp_path) as path:
        by_json = tokenizer.SimpleTokenizer(bpe_path=path).encode("shirt hair")
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    with bpe_vocabulary(tmp_path) as path:
        by_text = tokenizer.SimpleTokenizer(bpe_path=path).encode("shirt hair")
    assert by_json == by_text
    assert len(by_text) == 1 + len("hair")
    assert not path.exists()
    with pytest.raises(ModelMissing, match="no vocabulary"), bpe_vocabulary(tmp_path / "nowhere"):
        pass


def test_streams_of_one_worker_share_the_network(network: Network, picture: Pictures) -> None:
    models = Sam3Models(network)
    one, other = models.engine(), models.engine()
    for engine, box in ((one, BOX), (other, (60.0, 30.0, 120.0, 90.0))):
        engine.encode(picture(0))
        engine.prompt(1, box_xyxy=box)
    a, b = one.propagate([1])[1], other.propagate([1])[1]
    assert not np.array_equal(a.logits, b.logits)
    one.close()
    other.encode(picture(1))
    assert set(other.propagate([1])) == {1}
