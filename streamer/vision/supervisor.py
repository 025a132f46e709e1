"""The service's side of vision: keeps one worker process alive and gives each stream a session with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamer.errors import VisionUnavailable
from streamer.tracks import Target
from streamer.vision import messages as msg
from streamer.vision.known import Known, PhotoReading
from streamer.vision.process import WorkerProcess
from streamer.vision.session import Session
from streamer.vision.shared import SharedBytes
from streamer.vision.story import TrackStory

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings

log = logging.getLogger(__name__)

LOAD_SECONDS = 300.0
"""A worker that is not ready then, and has not said for so long what it is doing, is ended: a first start may fetch
models over a slow line, and compiles for minutes."""
PHOTO_SECONDS = 30.0
"""A photo that is not read by then counts as a hang."""
RETRY_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pause before the n-th start in a row that did not reach `ready`."""
CHECK_SECONDS = 0.25
"""How often hangs are looked for."""


@dataclass(frozen=True, slots=True)
class VisionState:
    """What the API says about vision."""

    phase: Literal["off", "starting", "ready", "restarting", "failed"]
    reason: str | None = None
    doing: str | None = None
    """What a worker that is not ready yet is doing: "warming up 3/20"."""
    restarts: int = 0
    model_id: str | None = None
    providers: tuple[str, ...] = ()
    load_seconds: float | None = None
    pid: int | None = None


class Supervisor:
    """Starts the worker, watches it, starts it again when it ends, hangs or cannot load.

    Lives in the event loop, as the task `run`. With engine `none` there is no worker at all.
    """

    def __init__(self, vision: VisionSettings, data_folder: Path) -> None:
        self._vision = vision
        self._data_folder = data_folder
        self._state = VisionState("off" if vision.engine == "none" else "starting")
        self._process: WorkerProcess | None = None
        self._changed = asyncio.Event()
        self._sessions: dict[str, Session] = {}
        self._known: Known | None = None
        self._recognised: frozenset[str] = frozenset()
        self._requests: dict[int, tuple[asyncio.Future[object], float]] = {}
        self._request_ids = itertools.count(1)
        self._photos = 0
        """Requests to read a photo among them."""
        self._heard_at = 0.0

    @property
    def state(self) -> VisionState:
        """What vision is doing now."""
        return self._state

    async def run(self) -> None:
        """Keep a worker alive until cancelled; then end it and free every session."""
        try:
            if self._vision.engine == "none":
                await asyncio.Event().wait()
            attempt = 0
            while True:
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                was_ready = await self._run_worker()
                attempt = 1 if was_ready else attempt + 1
        finally:
            for session in list(self._sessions.values()):
                session.close()
            self._set_state(VisionState("off"))

    async def wait_ready(self) -> None:
        """Until models are loaded. Raises `VisionUnavailable` where there is no engine or they cannot be loaded."""
        while self._state.phase != "ready":
            if self._state.phase in ("off", "failed"):
                raise VisionUnavailable(self._state.reason or "vision is off (engine none)")
            await self._changed.wait()

    async def wait_changed(self, seconds: float) -> None:
        """Until `state` changes, or for `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def require_ready(self) -> None:
        """Raises `VisionUnavailable`, with what is going on, unless there is a worker that can look at frames.

        One that names people needs the gallery for it: to one that does not know it yet everybody is a stranger, and a
        style that hides somebody would show them.
        """
        if self._state.phase != "ready" or self._lacks_gallery:
            raise VisionUnavailable(self.notice() or "vision is off")

    def recognises(self, member: str) -> bool:
        """Frames can tell `member`: the gallery has a face of theirs, or the engine only invents its people."""
        return self._state.model_id is None or member in self._recognised

    @property
    def _lacks_gallery(self) -> bool:
        return self._state.model_id is not None and self._known is None

    def notice(self) -> str | None:
        """A few words for the picture while vision sees no frames; None while it does, or is off."""
        if self._state.phase == "ready" and self._lacks_gallery:
            return "vision starting"
        words = {
            "starting": "vision starting",
            "restarting": "vision restarting",
            "failed": "vision unavailable",
        }.get(self._state.phase)
        return words if words is None or self._state.doing is None else f"{words}: {self._state.doing}"

    def open(self, stream_id: str, target: Target) -> Session:
        """A session for a stream; it lives until its `close`, across restarts of the worker."""
        session = Session(self, stream_id, target)
        self._sessions[stream_id] = session
        return session

    def forget(self, session: Session) -> None:
        """Called by `Session.close`."""
        self._sessions.pop(session.stream_id, None)

    def set_known(self, known: Known) -> None:
        """The gallery for every stream, from the next frame on."""
        self._known, self._recognised = known, known.with_a_face()
        if self._state.phase == "ready":
            self.send(msg.ChangeKnown(known))

    async def read_photo(self, encoded: bytes) -> PhotoReading:
        """Faces of an encoded photo (JPEG, PNG, …), embedded by the worker's pack.

        Raises:
            PhotoRefused: it is no picture that can be read.
            VisionUnavailable: there is no worker, or it ended meanwhile.
        """
        await self.wait_ready()
        block = SharedBytes.create(encoded)
        self._photos += 1
        try:
            reading = await self._ask(lambda number: msg.ReadPhoto(number, block.name, len(encoded)))
        finally:
            self._photos -= 1
            block.close()
        assert isinstance(reading, PhotoReading)
        return reading

    async def check_phrase(self, phrase: str) -> None:
        """Raises `PromptUnsupported` where the engine cannot answer an object prompt."""
        if self._vision.engine == "none":
            return
        await self.wait_ready()
        await self._ask(lambda number: msg.CheckPhrase(number, phrase))

    async def track_story(self, stream_id: str, track_id: int) -> TrackStory:
        """What was seen of a track's face and why it is named as it is.

        Raises:
            TrackUnknown: no such track, or it is gone for long.
            VisionUnavailable: there is no worker, or it ended meanwhile.
        """
        await self.wait_ready()
        story = await self._ask(lambda number: msg.TellStory(number, stream_id, track_id))
        assert isinstance(story, TrackStory)
        return story

    def send(self, message: object) -> None:
        """Hand a message to the worker, if there is one."""
        if self._process is not None and not self._process.send(message):
            log.error("the vision worker reads no messages; ending it")
            self._process.kill()

    async def _ask(self, make: Callable[[int], object]) -> object:
        number = next(self._request_ids)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._requests[number] = (future, time.monotonic())
        try:
            self.send(make(number))
            return await future
        finally:
            self._requests.pop(number, None)

    async def _run_worker(self) -> bool:
        """One worker from start to end; True when it got as far as `ready`."""
        process = WorkerProcess(self._vision, self._data_folder, self._receive)
        self._process = process
        self._heard_at = time.monotonic()
        was_ready = False
        reason: str | None = None
        try:
            await process.start()
            while process.alive:
                with contextlib.suppress(TimeoutError):
                    # Not `wait_for`: that of Python 3.11 loses a cancellation that comes together with the event.
                    async with asyncio.timeout(CHECK_SECONDS):
                        await process.ended.wait()
                was_ready = was_ready or self._state.phase == "ready"
                reason = self._hang_reason(time.monotonic())
                if reason is not None:
                    log.error("vision worker %s; ending it", reason)
                    process.kill()
                    break
        except asyncio.CancelledError:
            process.is_wanted = False
            raise
        except OSError as exc:
            reason = f"cannot be started ({exc})"
        finally:
            self._process = None
            self._worker_gone(process, reason)
            closing = asyncio.ensure_future(process.aclose())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await closing
                raise
        return was_ready

    def _hang_reason(self, now: float) -> str | None:
        if self._state.phase != "ready":
            return f"not ready after {LOAD_SECONDS:.0f} s" if now - self._heard_at > LOAD_SECONDS else None
        limit = self._vision.hang_seconds
        for _, since in self._requests.values():
            if now - since > PHOTO_SECONDS:
                return f"has not answered a request for {PHOTO_SECONDS:.0f} s"
        if self._photos:
            return None  # frames wait for it; other requests are answered at once
        for session in self._sessions.values():
            if session.busy_since is not None and now - session.busy_since > limit:
                return f"has had a frame of stream {session.stream_id} for {limit:.0f} s"
        return None

    def _worker_gone(self, process: WorkerProcess, reason: str | None) -> None:
        for session in self._sessions.values():
            session.worker_gone()
        gone = VisionUnavailable("the vision worker ended; try again in a few seconds")
        for future, _ in self._requests.values():
            if not future.done():
                future.set_exception(gone)
        restarts = self._state.restarts + 1
        if process.failure is not None:
            self._set_state(VisionState("failed", process.failure, restarts=restarts))
            return
        if not process.is_wanted:
            return
        reason = f"the vision worker {reason or f'ended ({process.exit_text()})'}"
        log.warning("%s", reason)
        self._set_state(VisionState("restarting", reason, restarts=restarts))

    def _receive(self, process: WorkerProcess, message: object) -> None:
        """In the event loop, for every message of a worker."""
        if process is not self._process:
            return
        match message:
            case msg.Stepped():
                session = self._sessions.get(message.stream_id)
                if session is not None:
                    session.finished(message)
            case msg.Answer():
                self._answered(message)
            case msg.Loading():
                self._heard_at = time.monotonic()
                log.info("vision: %s", message.doing)
                self._set_state(replace(self._state, doing=message.doing))
            case msg.Ready():
                self._ready(process, message)
            case msg.Failed():
                process.failure = message.reason
                if message.reason != self._state.reason:  # said once, however often it is tried
                    log.error("vision cannot start: %s", message.reason)

    def _answered(self, answer: msg.Answer) -> None:
        future, _ = self._requests.get(answer.request_id, (None, 0.0))
        if future is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.value)

    def _ready(self, process: WorkerProcess, message: msg.Ready) -> None:
        log.info("vision ready: engine %s, %.1f s to load", message.engine, message.load_seconds)
        if self._known is not None:
            process.send(msg.ChangeKnown(self._known))
        self._set_state(
            VisionState(
                "ready",
                restarts=self._state.restarts,
                model_id=message.model_id,
                providers=message.providers,
                load_seconds=message.load_seconds,
                pid=process.pid,
            )
        )

    def _set_state(self, state: VisionState) -> None:
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()
