"""The scenarios of `streamer bench live`. Each one starts a service of its own and gives a dictionary of numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from streamer.bench import content
from streamer.bench.results import Sight, latency, psnr, slope
from streamer.bench.rig import Service, Usage, Viewer, cpu_seconds, machine_busy_seconds, publishing, wait_for
from streamer.children import Child

WARM_UP_SECONDS = 4.0
"""Before anything is counted: connecting, the first keyframe, and caches."""
WINDOW_SECONDS = 10.0
"""The first and the last so many seconds are compared to see whether delay builds up."""
SAMPLE_SECONDS = 1.0
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario needs."""

    folder: Path
    """Temporary: the clip, the viewers' reports, the services' data."""
    models: Path | None
    """A data folder with models, or None: the service finds its own."""
    config: Path | None
    say: Callable[[str], None] = field(default=lambda line: None)
    """Told in one line what happens."""

    @property
    def clip(self) -> Path:
        """The raw clip; made on first use."""
        path = self.folder / "clip.i420"
        if not path.exists():
            self.say("making the pictures")
            content.make_clip(path)
        return path

    @property
    def film(self) -> Path:
        """The clip as a file without loss."""
        path = self.folder / "clip.y4m"
        if not path.exists():
            content.make_film(self.clip, path)
        return path

    def data_folder(self) -> Path:
        """A fresh one, in which the models of `models` are seen."""
        path = self.folder / f"data-{time.monotonic_ns()}"
        path.mkdir()
        if self.models is not None and (self.models / "models").is_dir():
            (path / "models").symlink_to(self.models / "models", target_is_directory=True)
        return path

    def service(self, engine: str, environment: dict[str, str] | None = None) -> Service:
        """A service with this engine, ready to be entered."""
        options = ["--engine", engine]
        if self.config is not None:
            options += ["--config", str(self.config)]
        return Service(options, self.data_folder(), environment or {})


@dataclass(frozen=True, slots=True)
class Window:
    """What the processes did in one window of measurement."""

    usages: list[Usage]
    """One a second."""
    dropped: dict[str, int]
    """In the window."""
    busy_seconds: float
    """CPU seconds of the whole machine: with all cores busy a latency is mostly the wait for a core."""
    peer_seconds: float
    """CPU seconds of the publisher and the viewers."""

    @property
    def seconds(self) -> float:
        return self.usages[-1].at - self.usages[0].at


@dataclass(frozen=True, slots=True)
class Measured:
    """A window, and what the viewers saw in it."""

    window: Window
    sights: list[Sight]
    """One a viewer, in the window."""
    info: dict[str, Any]
    """Of the API at the end."""

    @property
    def usages(self) -> list[Usage]:
        return self.window.usages

    @property
    def seconds(self) -> float:
        return self.window.seconds

    @property
    def service_ms_per_frame(self) -> float | None:
        """CPU of the service for one frame of the stream."""
        return 1000 * self.service_load / self.sights[0].fps if self.sights[0].fps else None

    @property
    def service_load(self) -> float:
        """CPU seconds a second of the service process."""
        return (self.usages[-1].service_cpu_seconds - self.usages[0].service_cpu_seconds) / self.seconds

    @property
    def worker_load(self) -> float:
        """CPU seconds a second of the vision worker."""
        return (self.usages[-1].worker_cpu_seconds - self.usages[0].worker_cpu_seconds) / self.seconds

    def numbers(self) -> dict[str, Any]:
        """What is told of every scenario."""
        first = self.sights[0]
        begin, end = self.usages[0].at, self.usages[-1].at
        window = min(WINDOW_SECONDS, self.seconds / 2)
        memory = [(u.at / 60, u.service_bytes / MEGABYTE) for u in self.usages]
        worker = [(u.at / 60, u.worker_bytes / MEGABYTE) for u in self.usages]
        return {
            "seconds": self.seconds,
            "fps_out": [sight.fps for sight in self.sights],
            "glass_to_glass_ms": latency(first.latencies),
            "glass_to_glass_ms_first": latency(first.between(begin, begin + window).latencies),
            "glass_to_glass_ms_last": latency(first.between(end - window, end).latencies),
            "marks_unreadable": len(first.latency_ms) - len(first.latencies),
            "service_cpu_seconds_per_second": self.service_load,
            "worker_cpu_seconds_per_second": self.worker_load,
            "service_cpu_ms_per_frame": self.service_ms_per_frame,
            "cores_busy": {
                "all": self.window.busy_seconds / self.seconds,
                "peers": self.window.peer_seconds / self.seconds,
            },
            "service_rss_mb": {"start": memory[0][1], "end": memory[-1][1], "slope_per_minute": slope(memory)},
            "worker_rss_mb": {"start": worker[0][1], "end": worker[-1][1], "slope_per_minute": slope(worker)},
            "stage_ms": self.info["latency_ms"],
            "dropped": self.window.dropped,
            "encoder": self.info["encoder"],
        }


class Stage:
    """A running service with one published stream, and the viewers of it."""

    def __init__(self, bench: Bench, service: Service, stream: str, stack: ExitStack) -> None:
        self._bench = bench
        self._stack = stack
        self.service = service
        self.stream = stream
        self.viewers: list[Viewer] = []
        self.children: list[Child] = []

    def check(self) -> None:
        """Raises if any process has ended."""
        self.service.check()
        for child in (*self.children, *(viewer.child for viewer in self.viewers)):
            child.check()

    def add_viewers(self, count: int, *, clip: Path | None = None) -> None:
        """Viewers join, one after the other."""
        url = f"{self.service.url}/api/streams/{self.stream}/whep"
        for _ in range(count):
            viewer = Viewer(url, self._bench.folder, len(self.viewers) + 1, clip=clip)
            self._stack.enter_context(viewer)
            self.viewers.append(viewer)
            viewer.wait_until_watching()

    def measure(self, seconds: float, what: str) -> Measured:
        """Warm up, sample for `seconds`, and end the viewers."""
        window = self._sample(seconds, what)
        info = self.service.info(self.stream)
        begin, end = window.usages[0].at, window.usages[-1].at
        sights = [viewer.sight().between(begin, end) for viewer in self.viewers]
        self.viewers.clear()
        return Measured(window, sights, info)

    def _sample(self, seconds: float, what: str) -> Window:
        self._sleep(WARM_UP_SECONDS, f"{what}: warming up")
        before = self.service.info(self.stream)["dropped"]
        peers, busy = self._peer_seconds(), machine_busy_seconds()
        usages = [self.service.usage()]
        while (left := usages[0].at + seconds - time.monotonic()) > 0:
            self._sleep(min(SAMPLE_SECONDS, left), f"{what}: {left:.0f} s to go")
            usages.append(self.service.usage())
        peers, busy = self._peer_seconds() - peers, machine_busy_seconds() - busy
        after = self.service.info(self.stream)["dropped"]
        return Window(usages, {key: after[key] - before[key] for key in after}, busy, peers)

    def _peer_seconds(self) -> float:
        return sum(cpu_seconds(child.pid) for child in (*self.children, *(viewer.child for viewer in self.viewers)))

    def _sleep(self, seconds: float, line: str) -> None:
        self._bench.say(line)
        self.check()
        time.sleep(seconds)


@contextmanager
def published(bench: Bench, engine: str, environment: dict[str, str], **wanted: Any) -> Iterator[Stage]:
    """A stage whose stream is the clip, published by WHIP from a process of its own."""
    clip = bench.clip
    bench.say(f"{engine}: starting")
    with ExitStack() as stack:
        service = stack.enter_context(bench.service(engine, environment))
        service.wait_until_ready()
        if wanted.get("member"):
            ok, jpeg = cv2.imencode(".jpg", content.photo()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            assert ok
            service.enrol(wanted["member"], jpeg.tobytes())
        stream = service.create({"kind": "whip"}, **wanted)
        stage = Stage(bench, service, stream, stack)
        stage.children.append(stack.enter_context(publishing(f"{service.url}/api/streams/{stream}/whip", clip)))
        wait_for(lambda: service.info(stream)["size"], 30.0, "the first frame", stage.check)
        yield stage


def transport(bench: Bench, seconds: float, viewers: int) -> dict[str, Any]:
    """Engine `none`: what the way through the service costs, with one viewer and with several."""
    with published(bench, "none", {}) as stage:
        stage.add_viewers(1)
        one = stage.measure(seconds, "none, 1 viewer")
        numbers = {"viewers": 1, **one.numbers()}
        if viewers > 1:
            stage.add_viewers(viewers)
            many = stage.measure(seconds, f"none, {viewers} viewers")
            numbers["several"] = {"viewers": viewers, **many.numbers()}
            alone, together = one.service_ms_per_frame, many.service_ms_per_frame
            further = None if alone is None or together is None else (together - alone) / (viewers - 1)
            numbers["cpu_ms_per_frame_and_further_viewer"] = further
    return numbers


def quality(bench: Bench, seconds: float) -> dict[str, Any]:
    """Engine `none`, a file without loss as the source: what the service's own encode does to the picture."""
    bench.say("quality: starting")
    with ExitStack() as stack:
        service = stack.enter_context(bench.service("none"))
        stream = service.create({"kind": "file", "path": str(bench.film), "loop": True})
        stage = Stage(bench, service, stream, stack)
        wait_for(lambda: service.info(stream)["size"], 30.0, "the first frame", stage.check)
        stage.add_viewers(1, clip=bench.clip)
        measured = stage.measure(seconds, "quality")
    sight = measured.sights[0]
    return {
        "seconds": measured.seconds,
        "fps_out": sight.fps,
        "frames_compared": len(sight.errors),
        "psnr_y_db": psnr(sight.errors),
        "service_cpu_seconds_per_second": measured.service_load,
        "encoder": measured.info["encoder"],
    }


def synthetic(bench: Bench, seconds: float, delay_seconds: float) -> dict[str, Any]:
    """An engine that takes `delay_seconds` a frame: delay must not build up, and memory stays."""
    environment = {"STREAMER_VISION__SYNTHETIC_DELAY_SECONDS": str(delay_seconds)}
    with published(bench, "synthetic", environment) as stage:
        stage.add_viewers(1)
        measured = stage.measure(seconds, f"synthetic, {delay_seconds * 1000:.0f} ms a frame")
    return {"delay_seconds": delay_seconds, **measured.numbers()}


def lite(bench: Bench, seconds: float) -> dict[str, Any]:
    """The real engine on one person, followed by name."""
    with published(bench, "lite", {}, member=content.MEMBER) as stage:
        stage.add_viewers(1)
        measured = stage.measure(seconds, "lite, 1 person")
    numbers = measured.numbers()
    stages = numbers["stage_ms"]
    vision = sum(stages[name]["p50"] for name in ("identity", "propagate") if name in stages)
    outside = sum(stages[name]["p50"] for name in ("decode", "overlay", "encode") if name in stages)
    named = [track["name"] for track in measured.info["tracks"] if track["state"] == "tracked"]
    return {"named": named, "vision_ms_p50": vision, "decode_overlay_encode_ms_p50": outside, **numbers}
