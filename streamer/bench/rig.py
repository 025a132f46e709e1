"""The processes of one measurement: a real service, a publisher, viewers; what they cost and what the viewers saw.

Everything is started as a child of this process and ended by its id, whatever happens in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from streamer.bench.results import Sight
from streamer.children import Child
from streamer.errors import StreamerError

START_SECONDS = 60.0
READY_SECONDS = 120.0
FRAME_SECONDS = 30.0
LISTENING = "listening on "


@dataclass(frozen=True, slots=True)
class Usage:
    """What the service's processes had used at one moment."""

    at: float
    """`time.monotonic()`"""
    service_cpu_seconds: float
    worker_cpu_seconds: float
    service_bytes: int
    """Resident memory; of pages shared with the worker each process counts its own view."""
    worker_bytes: int


class Service:
    """`streamer serve` on a free port and an own data folder."""

    def __init__(self, options: Sequence[str], data_folder: Path, environment: dict[str, str]) -> None:
        args = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(data_folder), *options]
        self._child = Child("service", "streamer", args, environment)
        self._process = psutil.Process(self._child.pid)
        self._api: httpx.Client | None = None
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self.url = wait_for(lambda: self._child.line_with(LISTENING), START_SECONDS, "the service", self.check)
        except BaseException:
            self._child.close()
            raise
        token = os.environ.get("STREAMER_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._api = httpx.Client(base_url=self.url, headers=headers, timeout=60.0, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._api is not None:
            self._api.close()
        self._child.close()

    def check(self) -> None:
        """Raises `StreamerError` if the service has ended."""
        self._child.check()

    def call(self, method: str, path: str, **how: Any) -> Any:
        """The JSON of an API call (None where the answer is empty). Raises `StreamerError` on a refusal."""
        assert self._api is not None
        try:
            response = self._api.request(method, path, **how)
        except httpx.HTTPError as exc:
            self.check()
            raise StreamerError(f"{method} {path}: {exc}") from exc
        if not response.is_success:
            raise StreamerError(f"{method} {path} answered {response.status_code}: {response.text[:300]}")
        return response.json() if response.content else None

    def wait_until_ready(self) -> None:
        """Until the models are loaded."""
        assert self._api is not None
        api = self._api
        wait_for(lambda: api.get("/readyz").status_code == 200, READY_SECONDS, "vision to be ready", self.check)

    def create(self, source: dict[str, Any], **wanted: Any) -> str:
        """A new stream's id."""
        return str(self.call("POST", "/api/streams", json={"source": source, **wanted})["id"])

    def enrol(self, name: str, photo_jpeg: bytes) -> None:
        """Make a member known."""
        self.call("POST", "/api/members", json={"name": name})
        photo = {"photos": ("photo.jpg", photo_jpeg, "image/jpeg")}
        self.call("POST", f"/api/members/{name}/photos", files=photo)

    def info(self, stream: str) -> dict[str, Any]:
        """What the API says about a stream."""
        told: dict[str, Any] = self.call("GET", f"/api/streams/{stream}")
        return told

    def usage(self) -> Usage:
        """CPU and memory now; the worker is every descendant of the service."""
        own = self._process.cpu_times()
        worker_cpu, worker_bytes = 0.0, 0
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                worker_cpu += times.user + times.system
                worker_bytes += child.memory_info().rss
        memory = self._process.memory_info().rss
        return Usage(time.monotonic(), own.user + own.system, worker_cpu, memory, worker_bytes)


class Viewer:
    """A viewer in its own process. `sight` ends it and gives what it saw."""

    def __init__(
        self, url: str, folder: Path, number: int, *, clip: Path | None = None, annotation: bool = False
    ) -> None:
        self._out = folder / f"viewer-{number}-{time.monotonic_ns()}.json"
        args = ["--url", url, "--out", str(self._out)]
        args += ["--clip", str(clip)] if clip is not None else []
        args += ["--annotation"] if annotation else []
        self.child = Child(f"viewer {number}", "streamer.bench.viewer", args)

    def annotated_at(self) -> float | None:
        """`time.monotonic()` of the first annotated picture, once there was one."""
        said = self.child.line_with("annotated ")
        return None if said is None else float(said)

    def wait_until_watching(self) -> None:
        """Until the session is negotiated."""
        wait_for(lambda: self.child.line_with("watching") is not None, FRAME_SECONDS, self.child.name, self.child.check)

    def sight(self) -> Sight:
        """End the viewer; what it saw. Raises `StreamerError` if it could not say."""
        self.child.close()
        try:
            return Sight(**json.loads(self._out.read_text(encoding="utf-8")))
        except FileNotFoundError:
            self.child.check()
            raise StreamerError(f"{self.child.name} left no report") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close()


@contextlib.contextmanager
def publishing(url: str, clip: Path) -> Iterator[Child]:
    """The clip's publisher, in its own process, connected."""
    with Child("publisher", "streamer.bench.publisher", ["--url", url, "--clip", str(clip)]) as child:
        wait_for(lambda: child.line_with("publishing") is not None, FRAME_SECONDS, "the publisher", child.check)
        yield child


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used; 0.0 when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def machine_busy_seconds() -> float:
    """CPU seconds that all cores together were not idle, since some start."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def wait_for(ready: Callable[[], Any], seconds: float, what: str, check: Callable[[], None]) -> Any:
    """What `ready` gives once it is true. Raises `StreamerError` after `seconds`, or what `check` raises."""
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        check()
        if time.monotonic() > deadline:
            raise StreamerError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)
    return value
