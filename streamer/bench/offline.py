"""`streamer bench offline`: photos, video files and rendering again, each command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np

from streamer.bench.live import Bench
from streamer.errors import StreamerError
from streamer.ingest.demo_cast import ASTRONAUT, demo_members

MEMBER = "eileen"
FPS = 25
SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
PHOTOS = 6
"""The first of them pays for what is loaded late, and is not counted."""
LONGER = 3
"""Times the length of the first run, to see whether memory stays flat."""
_SOUND_RATE = 48_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one command said and used."""

    result: dict[str, Any]
    cpu_seconds: float
    peak_bytes: int


def offline(bench: Bench, seconds: float) -> dict[str, Any]:
    """Measure; `seconds`: length of the clips. One person, who moves, before a drifting background, with sound."""
    data = bench.data_folder()
    photo = bench.folder / f"{MEMBER}.jpg"
    photo.write_bytes(demo_members()[MEMBER][0])
    bench.say("offline: enrolling")
    _streamer(bench, data, ["members", "add", MEMBER, str(photo)])
    return {
        "seconds": seconds,
        "photo_1080p": _photo(bench, data),
        **{f"video_{name}": _video(bench, data, name, seconds) for name in SIZES},
        "every_5_1080p": _video(bench, data, "1080p", seconds, ["--every", "5"]),
        "render_720p": _render(bench, data, seconds),
        "memory": _memory(bench, data, seconds),
    }


def _photo(bench: Bench, data: Path) -> dict[str, Any]:
    folder = bench.folder / "photos"
    folder.mkdir(exist_ok=True)
    stage = Stage((1920, 1080))
    for number in range(PHOTOS):
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.cvtColor(stage.picture(number), cv2.COLOR_YUV2BGR_I420))
    bench.say("offline: photos")
    run = _command(bench, data, ["image", str(folder), "--member", MEMBER, "--out", str(bench.folder / "pictures")])
    taken = [found["seconds"] for found in run.result["photos"]][1:]
    return {
        "seconds_p50": median(taken),
        "seconds_max": max(taken),
        "seen": run.result["seen"][MEMBER],
        "photos": PHOTOS,
        "peak_memory_mb": run.peak_bytes / 2**20,
    }


def _video(bench: Bench, data: Path, name: str, seconds: float, options: Sequence[str] = ()) -> dict[str, Any]:
    clip = _clip(bench, name, seconds)
    out = bench.folder / f"{name}-out.mp4"
    bench.say(f"offline: video, {name} {' '.join(options)}")
    run = _command(bench, data, ["video", str(clip), "--member", MEMBER, "--out", str(out), *options])
    return _figures(run)


def _render(bench: Bench, data: Path, seconds: float) -> dict[str, Any]:
    clip = _clip(bench, "720p", seconds)
    sidecar = bench.folder / "720p-out.jsonl"
    bench.say("offline: rendering again, 720p")
    out = bench.folder / "render.mp4"
    return _figures(_command(bench, data, ["render", str(clip), str(sidecar), "--style", "cutout", "--out", str(out)]))


def _memory(bench: Bench, data: Path, seconds: float) -> dict[str, Any]:
    """Peaks of a short and a longer file at 1080p, with the look-ahead of a fancam."""
    peaks = []
    for length in (seconds, LONGER * seconds):
        clip = _clip(bench, "1080p", length)
        bench.say(f"offline: memory, {length:g} s of 1080p")
        out = bench.folder / "memory.mp4"
        run = _command(
            bench, data, ["video", str(clip), "--member", MEMBER, "--fancam", "9:16", "--out", str(out), "--every", "3"]
        )
        peaks.append(run.peak_bytes / 2**20)
    return {"peak_memory_mb": peaks[0], "peak_memory_mb_longer": peaks[1], "longer": LONGER}


def _figures(run: Run) -> dict[str, Any]:
    result = run.result
    elapsed = result["elapsed_seconds"]
    return {
        "fps": result["frames"] / elapsed,
        "times_real_time": result["seconds"] / elapsed,
        "cpu_ms_per_frame": 1000 * run.cpu_seconds / result["frames"],
        "seen_share": result["seen"].get(MEMBER, 0) / result["frames"],
        "frames": result["frames"],
        "codec": result["codec"],
        "peak_memory_mb": run.peak_bytes / 2**20,
    }


def _command(bench: Bench, data: Path, command: list[str]) -> Run:
    output, cpu_seconds, peak = _streamer(bench, data, [*command, "--progress-json"])
    last = json.loads(output.splitlines()[-1])
    return Run(last["result"], cpu_seconds, peak)


def _streamer(bench: Bench, data: Path, command: list[str]) -> tuple[str, float, int]:
    """Run the command line: what it printed, CPU seconds, peak bytes."""
    options = ["--data-dir", str(data)]
    if bench.config is not None:
        options += ["--config", str(bench.config)]
    log = bench.folder / "stderr.txt"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", *options, *command], stdout=subprocess.PIPE, stderr=errors
        )
        try:
            assert process.stdout is not None
            output = process.stdout.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise StreamerError(f"streamer {command[0]} failed: {said[-1] if said else process.returncode}")
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return output, usage.ru_utime + usage.ru_stime, peak


def _clip(bench: Bench, name: str, seconds: float) -> Path:
    path = bench.folder / f"{name}-{seconds:g}.mp4"
    if not path.exists():
        bench.say(f"offline: making {seconds:g} s of {name}")
        make_clip(path, SIZES[name], seconds)
    return path


class Stage:
    """A person who walks to and fro before a background that drifts. Pictures are I420."""

    def __init__(self, size: tuple[int, int]) -> None:
        """`size`: width and height, even."""
        self._size = width, height = size
        side = round(height * 0.9)
        self._person = cv2.resize(ASTRONAUT.read(), (side, side), interpolation=cv2.INTER_AREA)
        self._room = width - side
        noise = np.random.default_rng(5).integers(40, 200, (height // 20, width // 10, 3), np.uint8)
        self._behind = cv2.resize(noise, (2 * width, height), interpolation=cv2.INTER_CUBIC)

    def picture(self, index: int) -> np.ndarray:
        """(H * 3 // 2, W) uint8."""
        width, height = self._size
        drift = (2 * index) % width
        bgr = self._behind[:, drift : drift + width].copy()
        side = self._person.shape[0]
        left = round(self._room * (0.5 + 0.45 * np.sin(index / 30)))
        bgr[height - side :, left : left + side] = self._person
        i420: np.ndarray = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        return i420


def make_clip(path: Path, size: tuple[int, int], seconds: float) -> None:
    """An MP4 of `Stage` at 25 frames a second, with a tone."""
    stage = Stage(size)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        sound: Any = container.add_stream("aac", rate=_SOUND_RATE)
        tone = (np.sin(np.arange(_SOUND_RATE // FPS) * 2 * np.pi / 120) * 8000).astype(np.int16)
        for index in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(stage.picture(index), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
            heard = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            heard.sample_rate, heard.pts = _SOUND_RATE, index * len(tone)
            container.mux(sound.encode(heard))
        container.mux([*video.encode(None), *sound.encode(None)])
