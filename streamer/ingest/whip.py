"""A browser's camera as a source (WHIP): one publisher at a time, any number after one another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import av
from aiortc import RTCRtpTransceiver
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from streamer.channels import LatestSlot
from streamer.errors import SessionUnknown, SourceUnusable, StreamConflict
from streamer.frames import Frame
from streamer.ingest.convert import to_i420
from streamer.ingest.source import SourceState
from streamer.ingest.timeline import MAX_STEP_SECONDS, Timeline
from streamer.service.settings import Settings
from streamer.webrtc.assembler import CodedFrame
from streamer.webrtc.hooks import ReceiverHook
from streamer.webrtc.incoming import IncomingVideo
from streamer.webrtc.peers import Network, Peer
from streamer.webrtc.sdp import raise_publisher_rate

log = logging.getLogger(__name__)

START_BIT_RATE = 4_000_000
"""Bits per second that a browser is asked to begin with: 1280x720 at 30 fps from the first frame."""
MAX_BIT_RATE = 8_000_000
SILENT_SECONDS = 5.0
"""Without a packet for so long a publisher has gone."""
QUEUE_FRAMES = 30
"""Coded frames that may wait for the decoder: a second. They build on each other, so none can be skipped alone."""
CLOSE_SECONDS = 5.0
_WAITING = SourceState("connecting", "waiting for a publisher")
_CLOCK = 90_000


class WhipSource:
    """Frames of whoever publishes. `answer`, `end` and `aclose` in the event loop; the rest from any thread.

    Decoding runs on one thread a publisher. Frame indices and pts go on from one publisher to the next.
    """

    kind: ClassVar[str] = "whip"

    def __init__(self, settings: Settings) -> None:
        self._network = Network.of(settings)
        self._max_size = (settings.video.max_width, settings.video.max_height)
        self._slot: LatestSlot[Frame] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: _Session | None = None
        self._ending: set[_Session] = set()
        self._opening = False
        self._state = _WAITING
        self._changing = threading.Lock()
        self._closed = False
        self._clock = _FrameClock()
        self.dropped = 0
        """Coded frames thrown away because decoding could not keep up, and decoded ones overtaken by newer ones."""

    @property
    def state(self) -> SourceState:
        return self._state

    @property
    def fps(self) -> float | None:
        """Frames per second as measured; None before the first publisher. Browsers lower it as they please."""
        return self._clock.fps

    @property
    def over(self) -> bool:
        return self._closed

    def describe(self) -> dict[str, object]:
        return {"kind": self.kind}

    def start(self, slot: LatestSlot[Frame]) -> None:
        """Frames go to `slot` from now on; publishers may come before and after."""
        self._slot = slot

    async def answer(self, offer_sdp: str) -> tuple[str, str]:
        """Answer a publisher's offer: (session id, SDP answer).

        Raises:
            NegotiationError: the offer cannot be answered.
            StreamConflict: somebody publishes already, or the stream is ending.
        """
        if self._closed:
            raise StreamConflict("the stream is ending; it takes no publisher")
        if self._session is not None or self._opening:
            raise StreamConflict("this stream has a publisher already; end that session first, or use another stream")
        self._loop = asyncio.get_running_loop()
        session = _Session(self._max_size, self._clock, self._decoded, self._ended)
        self._opening = True
        try:
            await session.open(self._network, offer_sdp)
        finally:
            self._opening = False
        if self._closed:
            await session.peer.aclose()
            raise StreamConflict("the stream ended while the publisher was joining")
        self._session = session
        self._state = SourceState("connecting", "a publisher is connecting")
        return session.peer.id, raise_publisher_rate(session.peer.answer_sdp, START_BIT_RATE, MAX_BIT_RATE)

    async def end(self, session_id: str) -> None:
        """End the publisher's session. Raises `SessionUnknown` where it is not this one."""
        session = self._session
        if session is None or session.peer.id != session_id:
            raise SessionUnknown(f"no publisher {session_id}; it may have ended already")
        await session.aclose()

    async def aclose(self) -> None:
        """End the publisher and wait for it. Twice is fine."""
        self._closed = True
        sessions = {*self._ending, *([self._session] if self._session is not None else [])}
        await asyncio.gather(*(session.aclose() for session in sessions))
        self._ending.clear()
        self._state = SourceState("ended", "closed")

    def close(self) -> None:
        """`aclose` for other threads than the event loop's; bounded by 5 s."""
        self._closed = True
        loop = self._loop
        if loop is None or loop.is_closed() or not (self._session or self._ending):
            self._state = SourceState("ended", "closed")
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self.aclose(), loop).result(CLOSE_SECONDS)

    def _decoded(self, session: _Session, frame: Frame) -> None:
        """From the decoder's thread."""
        with self._changing:
            # The decoder may be a frame behind the end of its session.
            if self._session is not session:
                return
            if self._state.phase != "live":
                self._state = SourceState("live")
        slot = self._slot
        if slot is not None:
            slot.put(frame)

    def _ended(self, session: _Session, reason: str) -> None:
        self.dropped += session.dropped
        self._ending = {s for s in self._ending if not s.peer.gone} | {session}
        with self._changing:
            if self._session is session:
                self._session = None
                self._state = SourceState("reconnecting", f"waiting for a publisher: {reason}")


class _FrameClock:
    """Indices and pts that go on across publishers. Used by one decoder thread at a time."""

    def __init__(self) -> None:
        self._index = -1
        self._timeline = Timeline(MAX_STEP_SECONDS)
        self._timestamp: int | None = None
        self._ticks = 0

    @property
    def fps(self) -> float | None:
        """Frames per second as measured."""
        return self._timeline.fps

    def restart(self) -> None:
        """The next timestamp is of another publisher's clock."""
        self._timestamp = None
        self._timeline.restart()

    def next(self, timestamp: int) -> tuple[int, float]:
        """Index and pts in seconds of the frame with that RTP timestamp (1/90000 s, wraps at 2**32)."""
        if self._timestamp is not None:
            half = 1 << 31
            self._ticks += ((timestamp - self._timestamp + half) % (1 << 32)) - half
        self._timestamp = timestamp
        self._index += 1
        return self._index, self._timeline.step(self._ticks / _CLOCK)


class _Session:
    """One publisher: its connection and its decoder."""

    def __init__(
        self,
        max_size: tuple[int, int],
        clock: _FrameClock,
        on_frame: Callable[[_Session, Frame], None],
        on_end: Callable[[_Session, str], None],
    ) -> None:
        self._on_end = on_end
        self._incoming: IncomingVideo | None = None
        self._hook: ReceiverHook | None = None
        self._peer: Peer | None = None
        self._loop = asyncio.get_running_loop()
        self._decoder = _Decoder(max_size, clock, lambda frame: on_frame(self, frame), self._broken)

    @property
    def peer(self) -> Peer:
        assert self._peer is not None
        return self._peer

    @property
    def dropped(self) -> int:
        return self._decoder.dropped

    async def open(self, network: Network, offer_sdp: str) -> None:
        """Answer `offer_sdp` and begin to decode. Raises `NegotiationError`."""
        peer = await Peer.answer(
            network, offer_sdp, "publisher", prepare=self._prepare, on_end=self._ended, silent_seconds=SILENT_SECONDS
        )
        assert self._hook is not None
        self._incoming = IncomingVideo(peer.wire, self._hook, self._received, MAX_BIT_RATE)
        self._decoder.start()

    async def aclose(self) -> None:
        """End the connection and the decoder. Twice is fine."""
        await self.peer.aclose()
        await asyncio.to_thread(self._decoder.close)

    def _prepare(self, peer: Peer, transceiver: RTCRtpTransceiver) -> None:
        self._peer = peer
        self._hook = ReceiverHook(transceiver)

    def _received(self, frame: CodedFrame) -> None:
        if not self._decoder.put(frame) and self._incoming is not None:
            self._incoming.request_keyframe()

    def _ended(self, reason: str) -> None:
        self._decoder.stop()
        self._on_end(self, reason)

    def _broken(self, reason: str | None) -> None:
        """From the decoder's thread: a keyframe is needed (None), or the video cannot be used at all."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if reason is not None:
                self._loop.call_soon_threadsafe(self.peer.end, reason)
            elif self._incoming is not None:
                self._loop.call_soon_threadsafe(self._incoming.request_keyframe)


class _Decoder:
    """Decodes on its own thread. Bound: 30 coded frames. Policy: on overflow all go, until a keyframe."""

    def __init__(
        self,
        max_size: tuple[int, int],
        clock: _FrameClock,
        on_frame: Callable[[Frame], None],
        on_broken: Callable[[str | None], None],
    ) -> None:
        self._max_size = max_size
        self._clock = clock
        self._on_frame = on_frame
        self._on_broken = on_broken
        self._frames: deque[tuple[CodedFrame, float]] = deque()
        self._more = threading.Condition()
        self._stopped = False
        self._starved = True
        self._thread = threading.Thread(target=self._run, name="whip-decoder", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def put(self, frame: CodedFrame) -> bool:
        """Queue a frame; False: it was dropped and a keyframe is needed."""
        with self._more:
            if len(self._frames) >= QUEUE_FRAMES:
                self.dropped += len(self._frames)
                self._frames.clear()
                self._starved = True
            if self._starved and not frame.keyframe:
                self.dropped += 1
                return False
            self._starved = False
            self._frames.append((frame, time.monotonic()))
            self._more.notify()
        return True

    def stop(self) -> None:
        """Throw away what waits and let the thread end."""
        with self._more:
            self._stopped = True
            self._more.notify()

    def close(self) -> None:
        """`stop`, and wait at most 5 s. Twice is fine."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        self._clock.restart()
        context: VideoCodecContext | None = None
        codec = ""
        while (item := self._next()) is not None:
            coded, arrived_at = item
            if context is None or coded.codec != codec:
                codec, context = coded.codec, _open(coded.codec)
            began = time.monotonic()
            try:
                pictures = _decode(context, coded)
            except av.error.FFmpegError:
                # The state stays: resetting it would make every frame fail until the next keyframe.
                self._on_broken(None)
                continue
            index, pts_seconds = self._clock.next(coded.timestamp)
            if not pictures or self._waiting():
                # Overtaken already: the newer frame needed this one decoded, nobody needs it converted.
                self.dropped += len(pictures)
                continue
            try:
                i420 = to_i420(pictures[-1], self._max_size)
            except SourceUnusable as exc:
                self._on_broken(str(exc))
                return
            self._on_frame(Frame(i420, index, pts_seconds, arrived_at, time.monotonic() - began))

    def _waiting(self) -> bool:
        return bool(self._frames)

    def _next(self) -> tuple[CodedFrame, float] | None:
        with self._more:
            self._more.wait_for(lambda: self._frames or self._stopped)
            return None if self._stopped else self._frames.popleft()


def _open(codec: str) -> VideoCodecContext:
    # FFmpeg's own VP8 decoder: libvpx takes a third more.
    context = av.CodecContext.create("h264" if codec == "H264" else "vp8", "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.flags |= Flags.low_delay
    return context


def _decode(context: VideoCodecContext, coded: CodedFrame) -> list[av.VideoFrame]:
    packet = av.Packet(coded.data)
    packet.pts = coded.timestamp
    return context.decode(packet)
