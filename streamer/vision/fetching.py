"""Model files from where they are published: the package index, InsightFace's releases. Used by the model store."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from streamer.errors import ModelMissing

SCRFD_REQUIREMENT = "scrfd==0.3.0"
SCRFD_MEMBER = "scrfd-0.3.0/models/scrfd.onnx"
SCRFD_SHA256 = "9c162a817c7dd32d35d1f1c6ae6445032d6e73c6c5fe61d8b5b663ba8bc86b30"
FETCH_TIMEOUT_SECONDS = 180.0


def sha256_of(path: Path) -> str:
    """Hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_scrfd(folder: Path) -> Path:
    """SCRFD's ONNX file as its sdist holds it, fetched into `folder` with pip.

    Raises:
        ModelMissing: pip cannot fetch it, or it fails its hash.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--no-binary", "scrfd", SCRFD_REQUIREMENT, "-d", str(folder)]
    what_next = "check the network or the pip index, then run `streamer models pull embedded`"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise ModelMissing(
            f"pip did not fetch {SCRFD_REQUIREMENT} within {FETCH_TIMEOUT_SECONDS:.0f} s: {what_next}"
        ) from exc
    archives = list(folder.glob("*.tar.gz")) if folder.is_dir() else []
    if done.returncode != 0 or not archives:
        errors = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no output"]
        reason = next((line for line in errors if line.startswith("ERROR")), errors[-1])
        raise ModelMissing(f"pip could not fetch {SCRFD_REQUIREMENT} ({reason.strip()}): {what_next}")
    target = folder / "scrfd.onnx"
    try:
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(SCRFD_MEMBER)
            if member is None:
                raise KeyError(SCRFD_MEMBER)
            target.write_bytes(member.read())
    except (tarfile.TarError, KeyError) as exc:
        raise ModelMissing(f"{archives[0].name} holds no {SCRFD_MEMBER}: {what_next}") from exc
    if sha256_of(target) != SCRFD_SHA256:
        raise ModelMissing(
            f"{SCRFD_MEMBER} from the package index fails its hash (expected SHA-256 {SCRFD_SHA256[:12]}…): {what_next}"
        )
    return target


def make_input_dynamic(source: Path, target: Path) -> None:
    """Rewrite SCRFD for any input height and width that are multiples of 32.

    The export carries fixed sizes in its input and in its two upsampling nodes; scales 1, 1, 2, 2 say the same for
    every size.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Resize":
            scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), f"{node.name}_scales")
            graph.initializer.append(scales)
            del node.input[2:]
            node.input.append(scales.name)
    dimensions = graph.input[0].type.tensor_type.shape.dim
    for axis, name in ((2, "height"), (3, "width")):
        dimensions[axis].ClearField("dim_value")
        dimensions[axis].dim_param = name
    for output in graph.output:
        anchors = output.type.tensor_type.shape.dim[1]
        anchors.ClearField("dim_value")
        anchors.dim_param = f"anchors_{output.name}"
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def fetch_buffalo(pack: str, recogniser: str, folder: Path, temporary: Path) -> None:
    """The ONNX files of an InsightFace release, put into `folder`. `recogniser`: the file that must be among them.

    Raises:
        ModelMissing: it cannot be fetched, or holds something else.
    """
    import zipfile

    import requests
    from insightface.utils.storage import download

    try:
        # It prints to stdout, which belongs to the commands' own output.
        with contextlib.redirect_stdout(sys.stderr):
            fetched = Path(download("models", pack, force=True, root=str(temporary / "insightface")))
    except (requests.RequestException, RuntimeError, zipfile.BadZipFile) as exc:
        raise ModelMissing(
            f"cannot fetch the face pack {pack} from github.com ({type(exc).__name__}: {exc}): check the network and "
            f"run `streamer models pull {pack}`, or set vision.pack to `embedded` or to a folder with its .onnx files"
        ) from exc
    # Some releases hold the files in a folder of their own inside the archive.
    for file in fetched.rglob("*.onnx"):
        shutil.move(file, folder / file.name)
    if not (folder / recogniser).exists():
        raise ModelMissing(f"the archive of {pack} holds no {recogniser}: run `streamer models pull {pack}`")
