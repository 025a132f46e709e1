"""Real WebRTC peers for tests and the benchmark: an aiortc publisher (WHIP) and an aiortc viewer (WHEP).

They talk to whatever answers an offer: `Answer` is `WhipSource.answer`, `Viewers.answer`, or an HTTP call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RTCP_PSFB_PLI, RtcpPsfbPacket

from streamer.webrtc.hooks import bind_to, complete_on_marker

Answer = Callable[[str], Awaitable[tuple[str, str]]]
"""Takes an SDP offer, gives (session id, SDP answer)."""

TIME_BASE = Fraction(1, 90_000)


def prefer(connection: RTCPeerConnection, codec: str) -> None:
    """Offer only `codec` ("H264", "VP8") and retransmissions for video."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    chosen = [c for c in codecs if c.name.upper() == codec] + [c for c in codecs if c.name.lower() == "rtx"]
    for transceiver in connection.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(chosen)


async def local_offer(connection: RTCPeerConnection) -> str:
    """An offer with candidates on 127.0.0.1 only."""
    offer = await connection.createOffer()
    bind_to(connection, ["127.0.0.1"])
    await connection.setLocalDescription(offer)
    return connection.localDescription.sdp


def encode_clip(pictures: Sequence[np.ndarray], bit_rate: int, fps: int = 30, keyframe_every: int = 30) -> list[bytes]:
    """Access units (Annex B, baseline) of (H * 3 // 2, W) uint8 I420 pictures, as a browser would encode them."""
    height, width = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1]
    encoder = LiveEncoder(width, height, bit_rate, fps)
    return [encoder.encode(picture, n % keyframe_every == 0) for n, picture in enumerate(pictures)]


class LiveEncoder:
    """The publisher's own x264."""

    def __init__(self, width: int, height: int, bit_rate: int, fps: int = 30) -> None:
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate, context.bit_rate = Fraction(1, fps), Fraction(fps), bit_rate
        context.gop_size, context.profile, context.thread_count = 10_000, "Baseline", 1
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "maxrate": str(bit_rate),
            "bufsize": str(bit_rate // 2),
        }
        self._context = context
        self._count = 0
        self.size = (width, height)

    def encode(self, picture: np.ndarray, keyframe: bool) -> bytes:
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), format="yuv420p")
        frame.pts = self._count
        self._count += 1
        frame.pict_type = av.video.frame.PictureType.I if keyframe else av.video.frame.PictureType.NONE
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class _FeedTrack(MediaStreamTrack):
    """Frames or packets that `next_item` makes, at a steady rate."""

    kind = "video"

    def __init__(self, next_item: Callable[[int], av.VideoFrame | av.Packet], fps: float) -> None:
        super().__init__()
        self._next_item = next_item
        self._fps = fps
        self._started_at: float | None = None
        self.sent = 0

    async def recv(self) -> av.VideoFrame | av.Packet:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._started_at is None:
            self._started_at = now
        wait = self._started_at + self.sent / self._fps - now
        if wait > 0:
            await asyncio.sleep(wait)
        item = await asyncio.to_thread(self._next_item, self.sent)
        item.pts = round(self.sent * 90_000 / self._fps)
        item.time_base = TIME_BASE
        self.sent += 1
        return item


class Publisher:
    """Publishes pictures by WHIP. `async with`, or `connect` and `close`.

    Args:
        picture: the (H * 3 // 2, W) uint8 I420 picture of frame n; called in a thread.
        codec: "H264" (our own x264 at `bit_rate`) or "VP8" (aiortc's encoder).
    """

    def __init__(
        self,
        answer: Answer,
        picture: Callable[[int], np.ndarray],
        *,
        fps: float = 30.0,
        codec: str = "H264",
        bit_rate: int = 4_000_000,
    ) -> None:
        self._answer = answer
        self._picture = picture
        self._bit_rate = bit_rate
        self._codec = codec
        self._encoder: LiveEncoder | None = None
        self._keyframe = True
        self.keyframe_requests = 0
        self.session_id = ""
        self.answer_sdp = ""
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.track = _FeedTrack(self._item, fps)

    async def connect(self) -> None:
        sender = self.connection.addTrack(self.track)
        stock = sender._send_keyframe

        def send_keyframe() -> None:
            self.keyframe_requests += 1
            self._keyframe = True
            stock()

        sender._send_keyframe = send_keyframe
        self.connection.getTransceivers()[0].direction = "sendonly"
        prefer(self.connection, self._codec)
        self.session_id, self.answer_sdp = await self._answer(await local_offer(self.connection))
        await self.connection.setRemoteDescription(RTCSessionDescription(self.answer_sdp, "answer"))

    def _item(self, number: int) -> av.VideoFrame | av.Packet:
        picture = self._picture(number)
        if self._codec != "H264":
            return av.VideoFrame.from_ndarray(picture, format="yuv420p")
        width, height = picture.shape[1], picture.shape[0] * 2 // 3
        if self._encoder is None or self._encoder.size != (width, height):
            self._encoder = LiveEncoder(width, height, self._bit_rate)
            self._keyframe = True
        keyframe, self._keyframe = self._keyframe or number % 60 == 0, False
        return av.Packet(self._encoder.encode(picture, keyframe))

    async def close(self) -> None:
        self.track.stop()
        await self.connection.close()

    async def __aenter__(self) -> Publisher:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class Viewer:
    """Watches by WHEP and hands each decoded frame to `on_frame` in the event loop. `async with`, or `connect`/`close`.

    Completes frames on the marker bit, as browsers do; aiortc alone adds one frame interval.
    """

    def __init__(self, answer: Answer, on_frame: Callable[[av.VideoFrame], None] | None = None) -> None:
        self._answer = answer
        self._on_frame = on_frame
        self._task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.frames = 0
        self.latest: av.VideoFrame | None = None
        self.session_id = ""
        self.answer_sdp = ""
        self.first_frame_seconds: float | None = None
        """From the offer to the first decoded frame."""

    async def connect(self) -> None:
        began = time.monotonic()
        self.connection.addTransceiver("video", direction="recvonly")
        self.session_id, self.answer_sdp = await self._answer(await local_offer(self.connection))
        complete_on_marker(self._receiver)
        await self.connection.setRemoteDescription(RTCSessionDescription(self.answer_sdp, "answer"))
        self._task = asyncio.create_task(self._watch(began))

    @property
    def _receiver(self) -> RTCRtpReceiver:
        return self.connection.getTransceivers()[0].receiver

    async def _watch(self, began: float) -> None:
        track = self._receiver.track
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if self.first_frame_seconds is None:
                    self.first_frame_seconds = time.monotonic() - began
                self.frames += 1
                self.latest = frame
                if self._on_frame is not None:
                    self._on_frame(frame)
                async with self._arrived:
                    self._arrived.notify_all()

    async def wait_for(self, condition: Callable[[Viewer], bool], seconds: float = 15.0) -> None:
        """Wait until `condition` holds after some frame. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: condition(self))

    async def request_keyframe(self) -> None:
        """Send a PLI."""
        receiver = self._receiver
        ssrc = next(iter(receiver._RTCRtpReceiver__remote_streams))
        own = self.connection.getTransceivers()[0].sender._ssrc
        await receiver._send_rtcp(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=own, media_ssrc=ssrc))

    async def close(self) -> None:
        await self.connection.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def __aenter__(self) -> Viewer:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
