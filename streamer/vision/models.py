"""The model store: which files the vision models are, where they come from, and whether they are whole.

Two kinds of files: *weights*, shipped inside this package, and *face packs*, folders that InsightFace's `FaceAnalysis`
loads by name, kept under `<data folder>/models/models/<pack>/`. The pack `embedded` needs no model hub: its recogniser
is shipped, and its detector is taken from an sdist on the package index at first use (its licence forbids shipping it).

Nothing here imports a model runtime at module level: `doctor` and the service use this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamer.errors import ModelMissing
from streamer.folders import unusable
from streamer.locks import lock, lock_file
from streamer.vision.fetching import SCRFD_REQUIREMENT, fetch_buffalo, fetch_scrfd, make_input_dynamic, sha256_of

log = logging.getLogger(__name__)

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
"""In a pack's folder: {file name: sha256} as it was when the pack was complete."""

_MEDIAPIPE = "Apache-2.0 (Google MediaPipe)"
_INSIGHTFACE = "weights by InsightFace: non-commercial research only"

SCRFD_FILE = "scrfd_2.5g_kps.onnx"


@dataclass(frozen=True, slots=True)
class Weight:
    """A file shipped inside the package."""

    file: str
    sha256: str
    licence: str
    purpose: str


WEIGHTS: dict[str, Weight] = {
    weight.file: weight
    for weight in (
        Weight(
            "mobilefacenet_192.onnx",
            "aab08593b264fa413e2831d8ba27dc9dbc6e8cdb324b98c5e5b77be35a492bab",
            "MIT (MobileFaceNet)",
            "face recognition",
        ),
        Weight(
            "pose_full_seg.onnx",
            "52447a3c5f8559e5ac981a167cfdb5c8fb45f224aba210fb80750644f78ccd2d",
            _MEDIAPIPE,
            "person masks (BlazePose)",
        ),
        Weight(
            "face_landmarks478.onnx",
            "1610f0c5fc91a6683db53226bae88909fe2001740a90ac4d4e7cad60a393c7b4",
            _MEDIAPIPE,
            "face mesh",
        ),
        Weight(
            "selfie_segmenter.onnx",
            "5768c8ea37a2b5ccffbf14660632c7e6133b4b6e35aa10ee38043a42224360f9",
            _MEDIAPIPE,
            "all people",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Pack:
    """A face pack: detector and recogniser."""

    name: str
    detector: str
    """File name of the model that finds faces."""
    recogniser: str
    """File name of the recognition model: what decides whether two embeddings may be compared."""
    licence: str
    origin: str


PACKS: dict[str, Pack] = {
    pack.name: pack
    for pack in (
        Pack(
            "embedded",
            SCRFD_FILE,
            "mobilefacenet_192.onnx",
            f"SCRFD: {_INSIGHTFACE}; MobileFaceNet: MIT",
            f"package index ({SCRFD_REQUIREMENT})",
        ),
        Pack("buffalo_l", "det_10g.onnx", "w600k_r50.onnx", _INSIGHTFACE, "InsightFace releases on GitHub"),
        Pack("buffalo_s", "det_500m.onnx", "w600k_mbf.onnx", _INSIGHTFACE, "InsightFace releases on GitHub"),
        Pack("buffalo_sc", "det_500m.onnx", "w600k_mbf.onnx", _INSIGHTFACE, "InsightFace releases on GitHub"),
    )
}

FileStatus = Literal["ok", "missing", "damaged"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file as `ModelStore.list` reports it."""

    pack: str
    """Name of the pack, or `lite` for the weights of the lite engine."""
    file: str
    status: FileStatus
    path: Path
    bytes: int
    licence: str
    origin: str


Progress = Callable[[str], None]
"""Told in one line what is being done."""


class ModelStore:
    """The models of one data folder. Safe for several processes at once: files appear whole or not at all."""

    def __init__(self, data_folder: Path) -> None:
        self.root = data_folder / "models"
        """What `FaceAnalysis` calls `root`: packs lie in `root/models/<name>`."""

    def folder(self, pack: str) -> Path:
        """Where the pack lies, there or not. `pack` is a known name or the path of a folder with ONNX files.

        Raises:
            ModelMissing: neither.
        """
        if pack in PACKS:
            return self.root / "models" / pack
        own = Path(pack).expanduser()
        if own.is_dir() and any(own.glob("*.onnx")):
            return own.resolve()
        raise ModelMissing(
            f"no face pack {pack!r}: use one of {', '.join(PACKS)}, or the path of a folder with a detector and a "
            "recogniser as .onnx files"
        )

    def ensure(self, pack: str, on_progress: Progress | None = None) -> Path:
        """Folder of a whole pack; fetches it where it is absent.

        Raises:
            ModelMissing: it cannot be fetched, or a file there fails its hash (`pull` replaces it).
        """
        folder = self.folder(pack)
        if pack not in PACKS:
            return folder
        if not (folder / MANIFEST).exists():
            return self.pull(pack, on_progress)
        for file, status in self._check(folder).items():
            if status != "ok":
                raise ModelMissing(
                    f"model file {folder / file} is {status} (its SHA-256 is not the recorded one): "
                    f"run `streamer models pull {pack}`"
                )
        return folder

    def pull(self, pack: str, on_progress: Progress | None = None) -> Path:
        """Folder of a whole pack; fetches it where it is absent or damaged. Waits for another process that does so.

        Raises:
            ModelMissing: it cannot be fetched or fails its hash; the reason and the way out are in the message.
        """
        folder = self.folder(pack)
        if pack not in PACKS:
            return folder
        say = on_progress or log.info
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with locked(self.root / f".{pack}.lock"):
                if (folder / MANIFEST).exists() and set(self._check(folder).values()) == {"ok"}:
                    return folder
                with tempfile.TemporaryDirectory(dir=self.root, prefix=".fetch-") as temporary:
                    made = Path(temporary) / "pack"
                    made.mkdir()
                    if pack == "embedded":
                        _make_embedded(made, Path(temporary), say)
                    else:
                        say(f"models: fetching {pack} from InsightFace's releases ({_INSIGHTFACE})")
                        fetch_buffalo(pack, PACKS[pack].recogniser, made, Path(temporary))
                    _write_manifest(made)
                    _replace(made, folder, Path(temporary) / "old")
        except OSError as exc:
            raise ModelMissing(f"cannot write models to {self.root}: {unusable(self.root, exc)}") from exc
        say(f"models: {pack} is ready in {folder}")
        return folder

    def model_id(self, pack: str) -> str:
        """Id of the pack's recogniser, the same on every machine: embeddings of one id may be compared.

        Raises:
            ModelMissing: the pack is not there.
        """
        folder = self.folder(pack)
        files = [folder / PACKS[pack].recogniser] if pack in PACKS else sorted(folder.glob("*.onnx"))
        digest = hashlib.sha256("".join(_recogniser_digest(file, pack) for file in files).encode()).hexdigest()[:12]
        return f"{PACKS[pack].recogniser.removesuffix('.onnx') if pack in PACKS else folder.name}-{digest}"

    def weight(self, file: str) -> Path:
        """Path of a weight shipped in the package.

        Raises:
            ModelMissing: it is absent or fails its hash.
        """
        path = WEIGHTS_FOLDER / file
        if _status(path, WEIGHTS[file].sha256) != "ok":
            raise ModelMissing(
                f"model file {path} is missing or damaged (expected SHA-256 {WEIGHTS[file].sha256[:12]}…): "
                "reinstall the package (pip install --force-reinstall --no-deps identity-aware-streamer)"
            )
        return path

    def list(self) -> list[ModelFile]:
        """Every file of every known pack, with its state and licence. Reads and hashes what is there."""
        found = [
            ModelFile(
                "lite",
                name,
                _status(path, weight.sha256),
                path,
                _size(path),
                weight.licence,
                f"shipped, {weight.purpose}",
            )
            for name, weight in WEIGHTS.items()
            for path in [WEIGHTS_FOLDER / name]
        ]
        for pack in PACKS.values():
            folder = self.folder(pack.name)
            files = self._check(folder) or dict.fromkeys((pack.detector, pack.recogniser), "missing")
            found += [
                ModelFile(pack.name, file, status, folder / file, _size(folder / file), pack.licence, pack.origin)
                for file, status in files.items()
            ]
        return found

    def _check(self, folder: Path) -> dict[str, FileStatus]:
        try:
            recorded: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return {file: _status(folder / file, digest) for file, digest in recorded.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError):
            return {MANIFEST: "damaged"}


def _make_embedded(folder: Path, temporary: Path, say: Progress) -> None:
    weight = WEIGHTS["mobilefacenet_192.onnx"]
    source = WEIGHTS_FOLDER / weight.file
    if _status(source, weight.sha256) != "ok":
        raise ModelMissing(f"model file {source} is missing or damaged: reinstall the package")
    shutil.copyfile(source, folder / weight.file)
    say(f"models: fetching the face detector ({SCRFD_REQUIREMENT}, 3 MB; {_INSIGHTFACE})")
    original = fetch_scrfd(temporary / "sdist")
    make_input_dynamic(original, folder / SCRFD_FILE)


def _write_manifest(folder: Path) -> None:
    hashes = {file.name: sha256_of(file) for file in sorted(folder.glob("*.onnx"))}
    (folder / MANIFEST).write_text(json.dumps(hashes, indent=1), encoding="utf-8")


def _replace(made: Path, folder: Path, old: Path) -> None:
    """Put the folder `made` in the place of `folder` (which may exist)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(made, folder)


def _recogniser_digest(path: Path, pack: str) -> str:
    try:
        return sha256_of(path)
    except OSError as exc:
        raise ModelMissing(f"model file {path} cannot be read ({exc}): run `streamer models pull {pack}`") from exc


def _status(path: Path, sha256: str) -> FileStatus:
    try:
        return "ok" if sha256_of(path) == sha256 else "damaged"
    except OSError:
        return "missing"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for another process that does. It is freed by the system if a holder dies.

    Raises:
        ConfigError, OSError: as `lock_file`.
    """
    with lock_file(path) as handle:
        lock(handle, wait=True)
        yield
