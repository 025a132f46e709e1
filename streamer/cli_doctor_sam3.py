"""`streamer doctor` on engine sam3: the checkpoint, device, dtype, attention kernel and compilation of the next start.

torch is looked at in a process of its own: a broken CUDA set-up may end it, and the command line stays light.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from streamer.cli_doctor import PROBE_SECONDS, Check
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from streamer.service.settings import Settings

_INSTALL = "pip install -e '.[sam3]'"

_PROBE = """
import importlib.metadata, importlib.util, json, sys
device, dtype = sys.argv[1:]
found = {}
for name in ("torch", "transformers", "sam3", "triton", "huggingface_hub"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
if found["torch"]:
    import torch
    found["cuda_build"] = torch.version.cuda
    found["gpu"] = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_bytes"] = properties.total_memory
    usable = device == "cpu" or found["gpu"]
    if usable:
        if dtype == "auto":
            from streamer.vision.engines.sam3.loading import best_dtype
            dtype = best_dtype(device)
        found["dtype"] = dtype
        # One attention of the image encoder, at its size for 336 pixels: torch chooses the kernel by device and dtype.
        query = torch.zeros(1, 16, 576, 64, device=device, dtype=getattr(torch, dtype))
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        choose = getattr(torch, "_fused_sdp_choice", None)
        if choose is not None:
            from torch.nn.attention import SDPBackend
            found["kernel"] = SDPBackend(choose(query, query, query)).name.lower()
print(json.dumps(found))
"""


def sam3_checks(settings: Settings) -> Iterator[Check]:
    """What engine sam3 would run on; nothing is loaded but torch."""
    vision, chosen = settings.vision, settings.vision.sam3
    yield _checkpoint(settings)
    try:
        command = [sys.executable, "-W", "ignore", "-c", _PROBE, vision.device, chosen.dtype]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        yield Check("sam3 torch", "fail", f"did not start within {PROBE_SECONDS:.0f} s", "reinstall torch")
        return
    except subprocess.CalledProcessError as exc:
        lines = exc.stderr.strip().splitlines() or [f"ended with {exc.returncode}"]
        yield Check("sam3 torch", "fail", lines[-1], f"check nvidia-smi and the driver, or {_INSTALL}")
        return
    needed = ["torch", "transformers", *(["sam3"] if chosen.backend == "meta" else [])]
    absent = [name for name in needed if not found[name]]
    versions = ", ".join(f"{name} {found[name]}" for name in needed if found[name])
    if absent:
        yield Check("sam3 packages", "fail", f"{', '.join(absent)} not installed", _INSTALL)
        return
    yield Check("sam3 packages", "ok", versions)
    yield _device(settings, found)
    if "dtype" in found:
        yield _way(settings, found)


def _checkpoint(settings: Settings) -> Check:
    from streamer.vision.checkpoints import CheckpointStore, read_manifest, repository_of

    chosen = settings.vision.sam3
    try:
        folder = CheckpointStore(settings.data_folder).ensure(chosen.checkpoint, chosen.backend)
    except (StreamerError, OSError) as exc:
        how = "" if chosen.backend == "transformers" else f" --backend {chosen.backend}"
        return Check("sam3 checkpoint", "fail", str(exc), f"streamer models pull {chosen.checkpoint}{how}")
    origin = read_manifest(folder)
    if origin is None:
        return Check("sam3 checkpoint", "ok", f"own folder {folder}; its licence is yours to check")
    size = sum(int(said["bytes"]) for said in origin.files.values())
    revision = f" @{origin.revision[:12]}" if origin.revision else ""
    return Check(
        "sam3 checkpoint",
        "ok",
        f"{repository_of(chosen.checkpoint) or chosen.checkpoint}{revision}, {size / 1e9:.2f} GB in {folder}",
    )


def _device(settings: Settings, found: dict[str, Any]) -> Check:
    vision = settings.vision
    if vision.device == "cuda":
        if found["gpu"] is None:
            built = "without CUDA" if found["cuda_build"] is None else f"for CUDA {found['cuda_build']}"
            return Check(
                "sam3 device",
                "fail",
                f"vision.device is cuda, but torch (built {built}) finds no GPU; nothing runs on the CPU instead",
                "check nvidia-smi and the driver, install a torch that fits it, or set vision.device to cpu",
            )
        return Check("sam3 device", "ok", f"cuda, {found['gpu']}, {found['gpu_bytes'] / 1e9:.0f} GB")
    spare = f"; the {found['gpu']} is not used" if found["gpu"] else ""
    return Check(
        "sam3 device",
        "warn",
        f"cpu, {vision.threads} threads: tens of seconds a frame at full size{spare}",
        "set vision.device to cuda on a machine with a GPU, or vision.engine to lite",
    )


def _way(settings: Settings, found: dict[str, Any]) -> Check:
    """How the network would run: one line, so that it can be pasted into a report."""
    vision, chosen = settings.vision, settings.vision.sam3
    compiled = "off"
    if chosen.compile:
        compiled = "on, with minutes of warm-up at a start" if vision.device == "cuda" else "off on the CPU"
    side = f"{chosen.image_size} pixels" if chosen.image_size is not None else "the checkpoint's own input size"
    way = (
        f"backend {chosen.backend}, {found['dtype']} ({chosen.dtype}), {side}, attention "
        f"{found.get('kernel', 'chosen by torch')}, compile {compiled}"
    )
    if chosen.backend == "meta" and vision.device == "cpu":
        return Check("sam3 runs as", "fail", way, "backend meta needs a GPU: set vision.sam3.backend to transformers")
    if chosen.backend == "meta" and chosen.image_size not in (None, 1008):
        return Check("sam3 runs as", "fail", way, "backend meta works at 1008 pixels only: set image_size to null")
    if chosen.compile and vision.device == "cuda" and not found["triton"]:
        return Check("sam3 runs as", "fail", f"{way}, but triton is not installed", "pip install triton")
    return Check("sam3 runs as", "ok", way)
