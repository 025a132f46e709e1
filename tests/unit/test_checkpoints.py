"""Checkpoints in the store, without torch and without a hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamer import cli
from streamer.errors import ModelMissing
from streamer.vision import hub
from streamer.vision.checkpoints import CheckpointStore, is_wanted, problems, read_manifest, repository_of


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.app, list(args))


def safetensors(bytes_of_weights: int) -> bytes:
    entry = {"dtype": "U8", "shape": [bytes_of_weights], "data_offsets": [0, bytes_of_weights]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(bytes_of_weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has copied from another machine."""
    made = tmp_path / "copied"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "sam3_video"}')
    (made / "merges.txt").write_text("#version: 0.2\n")
    (made / "model.safetensors").write_bytes(safetensors(1000))
    (made / "picture.png").write_bytes(b"unwanted")
    return made


def test_names() -> None:
    assert repository_of("sam3") == repository_of("facebook/sam3") == "facebook/sam3"
    assert repository_of("edgetam") is not None
    assert repository_of("somebody/sam2-tuned") == "somebody/sam2-tuned"
    for none in ("sam4", "a/b/c", "../secret", "/etc", ""):
        assert repository_of(none) is None


def test_what_is_fetched_of_a_repository() -> None:
    both = ("config.json", "tokenizer.json", "merges.txt", "LICENSE", "LICENSE.txt")
    assert all(is_wanted(name, backend) for name in both for backend in ("transformers", "meta"))
    assert is_wanted("model-00001-of-00002.safetensors", "transformers")
    assert not is_wanted("model.safetensors", "meta")
    assert (is_wanted("sam3.pt", "meta"), is_wanted("sam3.pt", "transformers")) == (True, False)
    assert not any(is_wanted(name, "transformers") for name in ("README.md", "assets/a.json", "sam2.pt", "x.png"))


def test_a_folder_is_taken_whole(folder: Path, tmp_path: Path) -> None:
    result = invoke("models", "pull", "sam3", "--from", str(folder), "--data-dir", str(tmp_path / "data"))
    assert result.exit_code == 0
    store = CheckpointStore(tmp_path / "data")
    taken = store.ensure("sam3")
    assert str(taken) in result.output
    assert {path.name for path in taken.iterdir()} == {
        "config.json",
        "merges.txt",
        "model.safetensors",
        "manifest.json",
    }
    origin = read_manifest(taken)
    assert origin is not None
    assert origin.repository == "facebook/sam3"
    listed = json.loads(invoke("models", "list", "--json", "--data-dir", str(tmp_path / "data")).output)
    states = {file["pack"]: file["status"] for file in listed if file["pack"] in ("sam3", "sam2", "edgetam")}
    assert states == {"sam3": "ok", "sam2": "missing", "edgetam": "missing"}
    licence = next(file["licence"] for file in listed if file["pack"] == "sam3")
    assert "SAM License" in licence
    # A folder of one's own is used where it is.
    assert store.ensure(str(folder)) == folder


def test_what_a_folder_lacks_is_said(folder: Path, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "data")
    (folder / "model.safetensors").write_bytes(safetensors(1000)[:-1])
    with pytest.raises(ModelMissing, match=r"model\.safetensors is cut off or no safetensors file; copy or download"):
        store.take("sam3", folder)
    for broken in (b"", b"<html>not found</html>", b"\xff" * 100):
        (folder / "model.safetensors").write_bytes(broken)
        assert list(problems(folder, "transformers")) == ["model.safetensors is cut off or no safetensors file"]
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(safetensors(10))
    assert list(problems(folder, "transformers")) == ["there is no model-2.safetensors"]
    assert list(problems(folder, "meta")) == ["there is no sam3.pt, which backend meta reads"]
    (folder / "merges.txt").unlink()
    assert len(list(problems(folder, "meta"))) == 2
    assert not store.folder("sam3").exists()


def test_a_copy_that_breaks_off_is_never_taken_for_whole(folder: Path, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "data")
    taken = store.take("sam3", folder)
    (taken / ".model.safetensors.copy").symlink_to("/dev/full")
    with pytest.raises(ModelMissing, match="No space left on device"):
        store.take("sam3", folder)
    with pytest.raises(ModelMissing, match="is not whole: its download broke off"):
        store.ensure("sam3")
    assert store.take("sam3", folder) == store.ensure("sam3")


def test_without_the_client_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("huggingface_hub", "huggingface_hub.constants", "huggingface_hub.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelMissing, match=r"pip install -e '\.\[sam3\]', or give a folder with --from"):
        hub.pull(CheckpointStore(tmp_path), "sam3")


def test_usage(folder: Path, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    assert "there is no 'sam4' to fetch" in str(invoke("models", "pull", "sam4", *data).exception)
    assert "for checkpoints" in str(invoke("models", "pull", "buffalo_l", "--from", str(folder), *data).exception)
    assert invoke("models", "pull", "sam3", "--backend", "jax", *data).exit_code == 2
    with pytest.raises(ModelMissing, match="name what it becomes"):
        CheckpointStore(tmp_path / "data").take(str(folder), folder)
