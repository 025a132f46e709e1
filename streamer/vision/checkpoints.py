"""Checkpoints of the SAM 3 engine: which there are, where they lie, and whether they are whole.

A checkpoint that was pulled lies in `<data folder>/models/checkpoints/<owner>--<name>/`, in the layout of Hugging Face,
with a manifest that is written last. A folder of the user's own, in that layout, may be used where it is.

Nothing here imports torch: `doctor` and the command line use this file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from streamer.errors import ModelMissing
from streamer.vision.fetching import sha256_of
from streamer.vision.models import FileStatus, ModelFile

MANIFEST = "manifest.json"
META_WEIGHTS = "sam3.pt"
"""What `backend: meta` reads; transformers reads `*.safetensors`."""
COPY_BYTES = 16 << 20
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint that has a short name."""

    name: str
    repository: str
    licence: str
    is_gated: bool
    """The licence has to be accepted on the hub, by the account of the token."""


CHECKPOINTS: dict[str, Checkpoint] = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("sam3", "facebook/sam3", "SAM License (Meta): not for military, weapons, espionage", True),
        Checkpoint("sam2", "facebook/sam2.1-hiera-large", "Apache-2.0 (Meta)", False),
        Checkpoint("edgetam", "yonigozlan/EdgeTAM-hf", "Apache-2.0 (Meta)", False),
    )
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a manifest says: where a checkpoint is from, and what it is made of."""

    repository: str
    revision: str
    """Commit on the hub; empty for a local folder."""
    files: dict[str, dict[str, int | str]]
    """By name: `bytes`, `sha256`."""


def repository_of(checkpoint: str) -> str | None:
    """`owner/name` on the hub of a short name or of such a name itself; None: it names no repository."""
    if checkpoint in CHECKPOINTS:
        return CHECKPOINTS[checkpoint].repository
    return checkpoint if _REPOSITORY.fullmatch(checkpoint) else None


def is_wanted(file: str, backend: str) -> bool:
    """Whether a file of a repository is one that the backend reads (or the licence, which goes with the weights)."""
    if "/" in file:
        return False
    if file == META_WEIGHTS:
        return backend == "meta"
    if file.endswith(".safetensors"):
        return backend == "transformers"
    return file.endswith(".json") or file in ("merges.txt", "vocab.txt") or file.upper().startswith("LICENSE")


class CheckpointStore:
    """The checkpoints of one data folder."""

    def __init__(self, data_folder: Path) -> None:
        self.root = data_folder / "models" / "checkpoints"

    def folder(self, checkpoint: str) -> Path:
        """Where it lies, there or not: a known name, a name on the hub, or the path of a folder.

        Raises:
            ModelMissing: none of these.
        """
        own = Path(checkpoint).expanduser()
        if checkpoint not in CHECKPOINTS and (own / "config.json").is_file():
            return own.resolve()
        repository = repository_of(checkpoint)
        if repository is None or own.is_absolute():
            raise ModelMissing(
                f"no checkpoint {checkpoint!r}: use one of {', '.join(CHECKPOINTS)}, a name on Hugging Face such as "
                "facebook/sam3, or the path of a folder with config.json and the weights"
            )
        return self.root / repository.replace("/", "--")

    def ensure(self, checkpoint: str, backend: str = "transformers") -> Path:
        """Folder of a checkpoint that has what the backend reads. Sizes are checked, hashes only by `pull`.

        Raises:
            ModelMissing: it is not there, or not whole.
        """
        folder = self.folder(checkpoint)
        how = "" if backend == "transformers" else f" --backend {backend}"
        pull = f"run `streamer models pull {checkpoint}{how}`"
        if folder.parent != self.root:
            for problem in problems(folder, backend):
                raise ModelMissing(f"checkpoint folder {folder}: {problem}; copy it again")
            return folder
        origin = read_manifest(folder)
        if origin is None:
            begun = folder.is_dir() and any(folder.iterdir())
            state = "is not whole: its download broke off" if begun else "is not here"
            raise ModelMissing(f"checkpoint {checkpoint} {state}; {pull} (3.4 GB for sam3), or give a folder")
        for name, said in origin.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != said["bytes"]:
                raise ModelMissing(f"{path} is missing or cut off; {pull}")
        for problem in problems(folder, backend):
            raise ModelMissing(f"checkpoint {checkpoint} in {folder}: {problem}; {pull}")
        return folder

    def list(self) -> list[ModelFile]:
        """Each known checkpoint, and each other one that was pulled. Sizes are checked, hashes only by `pull`."""
        names = {known.repository.replace("/", "--"): name for name, known in CHECKPOINTS.items()}
        if self.root.is_dir():
            pulled = sorted(path.name for path in self.root.iterdir() if path.is_dir())
            names |= {name: name.replace("--", "/", 1) for name in pulled if name not in names}
        return [self._listed(self.root / folder, name) for folder, name in names.items()]

    def _listed(self, folder: Path, name: str) -> ModelFile:
        known, origin = CHECKPOINTS.get(name), read_manifest(folder)
        begun = folder.is_dir() and any(folder.iterdir())
        status: FileStatus = "damaged" if begun else "missing"
        size = 0
        if origin is not None:
            size = sum(int(said["bytes"]) for said in origin.files.values())
            paths = {folder / file: said["bytes"] for file, said in origin.files.items()}
            if all(path.is_file() and path.stat().st_size == wanted for path, wanted in paths.items()):
                status = "ok"
        revision = f" @{origin.revision[:12]}" if origin is not None and origin.revision else ""
        file = repository_of(name) or name
        licence = known.licence if known is not None else "see its page"
        gated = ", gated: accept the licence there" if known is not None and known.is_gated else ""
        return ModelFile(name, f"{file}{revision}", status, folder, size, licence, f"Hugging Face{gated}")

    def take(self, checkpoint: str, source: Path, backend: str = "transformers") -> Path:
        """Copy a checkpoint from a local folder into the store, and check it.

        Raises:
            ModelMissing: the folder is none or not whole, or cannot be copied.
        """
        folder = self.folder(checkpoint)
        if folder.parent != self.root:
            raise ModelMissing(f"{folder} is a folder already: name what it becomes, such as sam3")
        if not source.is_dir():
            raise ModelMissing(f"{source} is no folder: --from wants the folder that holds config.json and the weights")
        for problem in problems(source, backend):
            raise ModelMissing(f"checkpoint folder {source}: {problem}; copy or download it again")
        names = [path.name for path in sorted(source.iterdir()) if path.is_file() and is_wanted(path.name, backend)]
        need = sum((source / name).stat().st_size for name in names)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_space(folder, need)
            drop_manifest(folder)
            for name in names:
                _copy(source / name, folder / name)
            write_manifest(folder, Origin(repository_of(checkpoint) or checkpoint, "", described(folder, names)))
        except OSError as exc:
            raise ModelMissing(f"cannot copy {source} to {folder}: {exc.strerror or exc}") from exc
        return folder


def problems(folder: Path, backend: str) -> Iterable[str]:
    """What a folder lacks to be a checkpoint that the backend can read, one clause each."""
    if not (folder / "config.json").is_file():
        yield "there is no config.json"
    if backend == "meta":
        if not (folder / META_WEIGHTS).is_file():
            yield f"there is no {META_WEIGHTS}, which backend meta reads"
        if not any((folder / name).is_file() for name in ("merges.txt", "tokenizer.json")):
            yield "there is no merges.txt and no tokenizer.json, which hold the vocabulary"
        return
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
            yield f"{index.name} is damaged"
    for name in names:
        if not (folder / name).is_file():
            yield f"there is no {name}"
        elif not _is_whole(folder / name):
            yield f"{name} is cut off or no safetensors file"


def check_space(folder: Path, need: int) -> None:
    """Raises `ModelMissing` where the disk of `folder` has less than `need` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ModelMissing(
            f"the disk of {folder} is full: {need / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free; make room, "
            "or choose another folder with --data-dir"
        )


def described(folder: Path, names: Iterable[str]) -> dict[str, dict[str, int | str]]:
    """Size and hash of files, as a manifest holds them."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)} for name in names}


def read_manifest(folder: Path) -> Origin | None:
    """None: there is none, or it is damaged."""
    try:
        return Origin(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_manifest(folder: Path, origin: Origin) -> None:
    """From now on the folder counts as whole. Files of another checkpoint that lay there are not removed."""
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(asdict(origin), indent=1), encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def drop_manifest(folder: Path) -> None:
    """From now on the folder counts as begun."""
    (folder / MANIFEST).unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says. Its weights are not read."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return False
        length = int(struct.unpack("<Q", start)[0])
        size = path.stat().st_size
        if length > size - 8:
            return False
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, AttributeError, TypeError, IndexError):
            return False
    return 8 + length + max(ends, default=0) == size


def _copy(source: Path, target: Path) -> None:
    """Under its final name only when it is whole."""
    temporary = target.with_name(f".{target.name}.copy")
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, COPY_BYTES)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
