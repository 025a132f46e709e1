"""`streamer doctor`: what this machine can do, a line a check, and what to do where it cannot."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamer.errors import ConfigError, GalleryUnavailable, GalleryUnwritable, StreamerError
from streamer.folders import CHOOSE, unusable

if TYPE_CHECKING:
    from streamer.service.settings import Settings

OLDEST_PYTHON = (3, 11)
LOW_DISK_BYTES = 2_000_000_000
"""Below this a recording at 4 Mb/s ends within about an hour."""
NO_DISK_BYTES = 100_000_000
PROBE_SECONDS = 60.0

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

_PROVIDERS = """
import contextlib, sys
if "CUDAExecutionProvider" in sys.argv:
    with contextlib.suppress(ImportError):
        import torch  # its CUDA libraries are the ones that onnxruntime-gpu finds
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
wanted = [name for name in sys.argv[2:] if name in onnxruntime.get_available_providers()]
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=wanted or ["CPUExecutionProvider"])
print(onnxruntime.__version__, *session.get_providers())
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report."""

    name: str
    level: Literal["ok", "warn", "fail"]
    found: str
    action: str = ""
    """What to do; empty where nothing needs doing."""


def doctor(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check Python, models, codecs, disk, ports, network and extras; exit status 1 where something fails."""
    checks: list[Check] = []
    for check in examine(ctx.obj.settings()):
        checks.append(check)
        if not as_json:
            _print(check)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, one after the other; each is bounded in time."""
    yield _python()
    yield _providers(settings)
    yield from _models(settings)
    if settings.vision.engine == "sam3":
        from streamer.cli_doctor_sam3 import sam3_checks

        yield from sam3_checks(settings)
    yield from _codecs(settings)
    yield from _data_folder(settings.data_folder)
    yield check_gallery(settings.data_folder / "gallery")
    from streamer.cli_doctor_ports import port_checks

    yield from port_checks(settings)
    yield _udp()
    yield _webrtc(settings)
    yield from _shared_memory(settings)
    yield _streamlit()
    yield _chromium()


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "fail", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def _providers(settings: Settings) -> Check:
    """Loads a model for real: a provider that is compiled in may still not start."""
    from streamer.vision.models import ModelStore

    name = "onnxruntime"
    wanted = ["CUDAExecutionProvider"] if settings.vision.device == "cuda" else []
    try:
        model = ModelStore(settings.data_folder).weight("mobilefacenet_192.onnx")
        # In a process of its own: a broken CUDA set-up may end it, and this one stays light.
        command = [sys.executable, "-c", _PROVIDERS, str(model), *wanted, "CPUExecutionProvider"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True)
    except StreamerError as exc:
        return Check(name, "fail", str(exc))
    except subprocess.TimeoutExpired:
        return Check(name, "fail", f"did not load a model within {PROBE_SECONDS:.0f} s", "reinstall onnxruntime")
    except subprocess.CalledProcessError as exc:
        lines = exc.stderr.strip().splitlines() or [f"ended with {exc.returncode}"]
        return Check(name, "fail", lines[-1], "pip install --force-reinstall --no-deps onnxruntime")
    version, *used = done.stdout.split()
    found = f"{version}, models run on {', '.join(used)}"
    if wanted and wanted[0] not in used:
        action = "pip install --force-reinstall --no-deps onnxruntime-gpu, and check nvidia-smi; or vision.device: cpu"
        return Check(name, "fail", f"{found}, but vision.device is cuda", action)
    return Check(name, "ok", found)


def _models(settings: Settings) -> Iterator[Check]:
    from streamer.vision.models import PACKS, ModelStore

    store = ModelStore(settings.data_folder)
    pack = settings.vision.pack
    try:
        listed = store.list()
    except OSError as exc:  # the data folder itself is the trouble
        wrong, _, action = unusable(store.root, exc).partition("; ")
        yield Check("models", "fail", f"cannot be looked at: {wrong}", action)
        listed = []
    for file in listed:
        if file.pack not in ("lite", pack):
            continue
        action = ""
        if file.status != "ok":
            action = "reinstall the package" if file.pack == "lite" else f"streamer models pull {pack}"
        # A pack that is not there is fetched at the first start; a damaged file is never used.
        level: Literal["ok", "warn", "fail"] = "ok"
        if file.status != "ok":
            level = "warn" if file.status == "missing" and file.pack != "lite" else "fail"
        yield Check(f"model {file.pack}/{file.file}", level, f"{file.status}; {file.licence}", action)
    if pack not in PACKS:
        try:
            yield Check(f"model pack {pack}", "ok", f"own folder {store.folder(pack)}; its licence is yours to check")
        except StreamerError as exc:
            yield Check(f"model pack {pack}", "fail", str(exc))
    if importlib.util.find_spec("insightface") is None:
        yield Check("insightface", "fail", "not installed", "pip install 'insightface>=2.1'")
    else:
        from importlib.metadata import version

        yield Check("insightface", "ok", version("insightface"))


def _codecs(settings: Settings) -> Iterator[Check]:
    import av

    broken = "reinstall PyAV: pip install --force-reinstall av"
    for name, opens in (("H.264 decoder", _open_decoder), ("encoder x264", lambda: _open_encoder("libx264"))):
        try:
            opens()
            yield Check(name, "ok", f"opens (PyAV {av.__version__})")
        except (av.FFmpegError, ValueError) as exc:
            yield Check(name, "fail", str(exc), broken)
    try:
        _open_encoder("h264_nvenc")
        yield Check("encoder NVENC", "ok", "opens")
    except (av.FFmpegError, ValueError) as exc:
        needed = settings.video.encoder == "nvenc"
        action = "set video.encoder to auto or x264" if needed else ""
        found = f"not on this machine ({type(exc).__name__}); x264 encodes"
        yield Check("encoder NVENC", "fail" if needed else "ok", found, action)


def _open_decoder() -> None:
    import av

    av.CodecContext.create("h264", "r").open()


def _open_encoder(name: str) -> None:
    from fractions import Fraction

    import av

    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = 640, 360, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 90000), Fraction(30)
    codec.open()


def _data_folder(folder: Path) -> Iterator[Check]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            pass
    except OSError as exc:
        wrong, _, action = unusable(folder, exc).partition("; ")
        yield Check("data folder", "fail", wrong, action)
        return
    yield Check("data folder", "ok", f"{folder} is writable")
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free"
    if free < NO_DISK_BYTES:
        yield Check("disk", "fail", found, f"make room, or {CHOOSE}")
    elif free < LOW_DISK_BYTES:
        yield Check("disk", "warn", found, f"recordings end when it is full; make room, or {CHOOSE}")
    else:
        yield Check("disk", "ok", found)


def check_gallery(folder: Path) -> Check:
    """Reads only: a damaged gallery is left as it is for whoever recovers it."""
    from streamer.vision.gallery_database import inspect
    from streamer.vision.gallery_store import DATABASE

    name, path = "gallery", folder / DATABASE
    try:
        found = inspect(path)
    except GalleryUnwritable as exc:
        return Check(name, "fail", str(exc), "choose another folder with --data-dir")
    except GalleryUnavailable as exc:
        return Check(name, "fail", str(exc).partition(": put back")[0], _recovery(str(exc), folder))
    if found is None:
        return Check(name, "ok", "nobody is enrolled yet")
    return Check(name, "ok", f"{found[0]} members, {found[1]} photos")


def _recovery(trouble: str, folder: Path) -> str:
    """What to do about a gallery that cannot be used, by what was said about it."""
    if "locked" in trouble:
        return "end the process that holds it (fuser, lsof), then try again; nothing is lost"
    if "newer version" in trouble:
        return "upgrade the program (pip install --upgrade identity-aware-streamer), or choose another with --data-dir"
    if "another program" in trouble:
        return "move that file away, or choose another folder with --data-dir"
    if "damaged" in trouble:
        return (
            f"copy the folder {folder} first; then put back an older copy of it, or in it run: sqlite3 gallery.sqlite3 "
            ".recover | sqlite3 new.sqlite3, and rename new.sqlite3 to gallery.sqlite3; or move gallery.sqlite3 (and "
            "-wal, -shm) away: the next start begins an empty gallery and sets the photos aside in found-photos, from "
            "where `streamer members add` takes them"
        )
    return "make room on the disk, or choose another folder with --data-dir"


def _udp() -> Check:
    """WebRTC's media is UDP; sandboxes and firewalls that allow HTTP only are common."""
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            one.bind(("127.0.0.1", 0))
            one.settimeout(2.0)
            other.sendto(b"streamer", one.getsockname())
            arrived = one.recv(64) == b"streamer"
    except OSError as exc:
        return Check("UDP on loopback", "fail", str(exc), "allow UDP on 127.0.0.1: live video needs it")
    return Check("UDP on loopback", "ok" if arrived else "fail", "datagrams arrive" if arrived else "garbled")


def _webrtc(settings: Settings) -> Check:
    from streamer.webrtc.peers import Network

    try:
        network = Network.of(settings)
    except ConfigError as exc:
        wrong, _, action = str(exc).partition("; ")
        return Check("WebRTC", "fail", wrong, action)
    servers = f", {len(network.ice_servers)} ICE servers" if network.ice_servers else ""
    return Check("WebRTC", "ok", f"peers reach {', '.join(network.addresses)}{servers}")


def _shared_memory(settings: Settings) -> Iterator[Check]:
    from streamer.vision.shared import MAKE_LARGER, SharedFrame, free_bytes

    free = free_bytes()
    if free is None:
        return
    video, streams = settings.video, settings.service.max_streams
    needed = streams * SharedFrame.size(video.max_width, video.max_height)
    size = f"{video.max_width}x{video.max_height}"
    found = f"{free / 1e6:.0f} MB free; {streams} streams of {size} take {needed / 1e6:.0f} MB"
    if free < needed:
        yield Check("shared memory", "warn", found, f"streams without a place in it have no vision; {MAKE_LARGER}")
    else:
        yield Check("shared memory", "ok", found)


def _streamlit() -> Check:
    if importlib.util.find_spec("streamlit") is None:
        action = "pip install -e '.[ui]' (only `streamer up` needs it)"
        return Check("streamlit", "warn", "not installed", action)
    from importlib.metadata import version

    return Check("streamlit", "ok", version("streamlit"))


def _chromium() -> Check:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return Check("chromium", "ok", f"{path} (browser tests)")
    return Check("chromium", "warn", "not found", "apt-get install chromium (only the browser tests need it)")


def _print(check: Check) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    action = f" -> {check.action}" if check.action else ""
    console.print(f"[{_COLOURS[check.level]}]{check.level:<4}[/] ", end="")
    console.print(f"{check.name}: {check.found}{action}", markup=False)
