"""Publishes the clip by WHIP, the time burnt into each frame, as a process: `python -m streamer.bench.publisher`."""

from __future__ import annotations

import argparse
import asyncio
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from streamer.bench import content, peer

BIT_RATE = 8_000_000
"""Bits per second: as a browser on a local network, so that the service's encode is what limits the picture."""
KEYFRAME_EVERY = 60
"""Frames."""
_TIME_BASE = Fraction(1, 90_000)


class _Encoder:
    """x264 as quick as it gets: its time is part of the latency from glass to glass."""

    def __init__(self) -> None:
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = content.WIDTH, content.HEIGHT, "yuv420p"
        context.time_base, context.framerate = Fraction(1, content.FPS), Fraction(content.FPS)
        context.bit_rate, context.gop_size = BIT_RATE, KEYFRAME_EVERY
        context.profile, context.thread_count = "Baseline", 1
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "maxrate": str(BIT_RATE),
            "bufsize": str(BIT_RATE // 4),
            "x264-params": f"keyint={KEYFRAME_EVERY}:scenecut=0",
        }
        self._context = context

    def encode(self, picture: np.ndarray, number: int) -> Packet[VideoStream]:
        frame = av.VideoFrame.from_numpy_buffer(picture, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, content.FPS)
        frame.pict_type = PictureType.NONE
        (packet,) = self._context.encode(frame)
        packet.pts = packet.dts = number * 90_000 // content.FPS
        packet.time_base = _TIME_BASE
        return packet


class _Camera(MediaStreamTrack):
    """The clip at its rate; a frame is marked when it would leave the sensor, then encoded."""

    kind = "video"

    def __init__(self, clip: np.ndarray) -> None:
        super().__init__()
        self._clip = clip
        self._encoder = _Encoder()
        self._started_at: float | None = None
        self.number = 0

    async def recv(self) -> Packet[VideoStream]:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._started_at is None:
            self._started_at = now
        wait = self._started_at + self.number / content.FPS - now
        if wait > 0:
            await asyncio.sleep(wait)
        elif wait < -1.0:
            self._started_at = now - self.number / content.FPS  # stalled: go on from here, do not catch up in a burst
        packet = await asyncio.to_thread(self._take)
        self.number += 1
        return packet

    def _take(self) -> Packet[VideoStream]:
        return self._encoder.encode(content.stamped(self._clip, self.number), self.number)


async def _publish(url: str, clip: Path) -> None:
    stop = peer.stop_event()
    connection = peer.connection()
    camera = _Camera(content.open_clip(clip))
    connection.addTransceiver(camera, direction="sendonly")
    session = await peer.negotiate(connection, url)
    print("publishing", flush=True)
    await stop.wait()
    camera.stop()
    await peer.leave(connection, session)


def main() -> None:
    """Publish until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--clip", type=Path, required=True)
    args = parser.parse_args()
    asyncio.run(_publish(args.url, args.clip))


if __name__ == "__main__":
    main()
