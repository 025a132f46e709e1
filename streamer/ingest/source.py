"""What every source is: a thread that turns an input into frames, and says how it is getting on."""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from streamer.channels import LatestSlot
from streamer.errors import SourceUnavailable, SourceUnusable
from streamer.frames import Frame
from streamer.ingest.timeline import Timeline

log = logging.getLogger(__name__)

Phase = Literal["connecting", "live", "reconnecting", "ended", "failed"]

CLOSE_SECONDS = 5.0
"""`close` returns within this time, whatever the input does."""
_JOIN_SECONDS = CLOSE_SECONDS - 0.2
_HEALTHY_SECONDS = 5.0
"""A run that was live for so long starts the back-off anew."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source is getting on."""

    phase: Phase
    """`connecting`: no frame yet; `live`; `reconnecting`: lost, or never reached, and tried again; `ended`: a file is
    over or the source was closed; `failed`: it will not work as it is (some kinds are still tried again, slowly)."""
    reason: str | None = None
    """Why it is not live: one line, credentials redacted."""
    retry_in_seconds: float | None = None
    """Until the next attempt, >= 0; None: no further attempt, or one is under way."""


class Source(Protocol):
    """One input of video."""

    kind: ClassVar[str]
    """`rtsp`, `file`, `demo` or `whip`."""
    dropped: int
    """Pictures thrown away inside the source because it could not keep up."""

    @property
    def state(self) -> SourceState:
        """How it is getting on; any thread may ask."""

    @property
    def fps(self) -> float | None:
        """Frames per second that it sends, as measured or announced; None: unknown yet."""

    @property
    def over(self) -> bool:
        """No frame will ever come any more: its input ended, it was closed, or it failed and is not tried again."""

    def start(self, slot: LatestSlot[Frame]) -> None:
        """Begin to put frames into `slot`; returns at once. Only once in a source's life."""

    def close(self) -> None:
        """Stop for good. Blocks for up to 5 s, so not on an event loop. Twice is fine; the slot stays open."""

    def describe(self) -> dict[str, object]:
        """What it is, for people: JSON-able, credentials redacted."""


class Backoff:
    """Waiting times that double from `first` to `longest` seconds, each with a jitter of half either way."""

    def __init__(self, first: float, longest: float, chance: random.Random | None = None) -> None:
        self._first, self._longest = first, longest
        self._chance = chance or random.Random()
        self._next = first

    def next(self) -> float:
        """Seconds to wait now; never over `longest`."""
        delay = self._next * self._chance.uniform(0.5, 1.5)
        self._next = min(self._next * 2, self._longest)
        return min(delay, self._longest)

    def reset(self) -> None:
        """Start over."""
        self._next = self._first


class ThreadedSource(ABC):
    """A source with a thread of its own, which runs `_play` again and again.

    `_play` returns at the end of the input, or raises `SourceUnavailable` (tried again with back-off) or
    `SourceUnusable` (final, or tried again slowly where `retries_unusable`). Everything but `state`, `fps`, `close` and
    `describe` happens on the source's thread.
    """

    kind: ClassVar[str]
    retries_unusable: ClassVar[bool] = False
    """Somebody may put the input right while we wait (a camera's password, say)."""

    def __init__(self, max_step_seconds: float | None = None) -> None:
        self.dropped = 0
        self._stopping = threading.Event()
        self._timeline = Timeline(max_step_seconds)
        self._slot: LatestSlot[Frame] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._phase: Phase = "connecting"
        self._reason: str | None = None
        self._retry_at: float | None = None
        self._next_index = 0
        self._live_since: float | None = None
        self._backoff = Backoff(0.25, 5.0)
        self._slow_backoff = Backoff(5.0, 60.0)  # slow: cameras lock an account after some wrong passwords

    @property
    def state(self) -> SourceState:
        """How it is getting on; any thread may ask."""
        with self._lock:
            retry = None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())
            return SourceState(self._phase, self._reason, retry)

    @property
    def fps(self) -> float | None:
        """Frames per second that it sends, as measured or announced; None: unknown yet."""
        return self._timeline.fps

    @property
    def over(self) -> bool:
        """No frame will ever come any more: its input ended, it was closed, or it failed and is not tried again."""
        return self._stopping.is_set() or (self._thread is not None and not self._thread.is_alive())

    def start(self, slot: LatestSlot[Frame]) -> None:
        """Begin to put frames into `slot`; returns at once. Only once in a source's life."""
        if self._thread is not None or self._stopping.is_set():
            raise RuntimeError("a source starts only once")
        self._slot = slot
        self._thread = threading.Thread(target=self._run, name=f"source-{self.kind}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop and join the thread, within 5 s. Twice is fine.

        A library call that hangs for longer (name resolution has no time-out) cannot be interrupted: its thread is left
        behind, publishes nothing any more and ends as soon as the call returns.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
            if self._thread.is_alive():
                log.warning("the %s source is still inside a library call and ends when that returns", self.kind)
        if self._phase != "failed":
            self._enter("ended", self._reason)

    def describe(self) -> dict[str, object]:
        """What it is, for people: JSON-able, credentials redacted."""
        return {"kind": self.kind}

    @abstractmethod
    def _play(self) -> None:
        """Publish frames until the input ends or `_stopping` is set."""

    def _publish(self, i420: np.ndarray, pts_seconds: float, captured_at: float, decode_seconds: float) -> None:
        """Hand over one picture; `pts_seconds` is from the timeline."""
        if self._stopping.is_set() or self._slot is None:
            return
        if self._phase != "live":
            self._live_since = time.monotonic()
            self._enter("live")
            log.info("%s source is live: %dx%d", self.kind, i420.shape[1], i420.shape[0] * 2 // 3)
        self._slot.put(Frame(i420, self._next_index, pts_seconds, captured_at, decode_seconds))
        self._next_index += 1

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._play()
                except SourceUnavailable as exc:
                    self._retry("reconnecting", str(exc), self._backoff)
                except SourceUnusable as exc:
                    if not self.retries_unusable:
                        self._enter("failed", str(exc))
                        log.warning("%s source failed: %s", self.kind, exc)
                        return
                    self._retry("failed", str(exc), self._slow_backoff)
                else:
                    self._enter("ended")
                    return
        except Exception:  # the thread's edge: a bug must show as a failed source, not as a picture that stands still
            log.exception("%s source ended by a bug", self.kind)
            self._enter("failed", "internal error in the source; the log has the details")

    def _retry(self, phase: Phase, reason: str, backoff: Backoff) -> None:
        """Say that the input is away, and wait until it is time for the next attempt."""
        if self._stopping.is_set():
            return
        if self._live_since is not None and time.monotonic() - self._live_since >= _HEALTHY_SECONDS:
            self._backoff.reset()
            self._slow_backoff.reset()
        self._live_since = None
        if (phase, reason) != (self._phase, self._reason):  # once, not at every attempt
            log.warning("%s source %s: %s", self.kind, phase, reason)
        delay = backoff.next()
        self._enter(phase, reason, time.monotonic() + delay)
        self._stopping.wait(delay)
        self._enter(phase, reason)
        self._timeline.restart()

    def _enter(self, phase: Phase, reason: str | None = None, retry_at: float | None = None) -> None:
        with self._lock:
            self._phase, self._reason, self._retry_at = phase, reason, retry_at
