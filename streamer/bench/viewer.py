"""A process that watches a stream by WHEP and reads the marks of what it decoded: `python -m streamer.bench.viewer`."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from streamer.bench import content, peer
from streamer.egress.palette import MEMBER
from streamer.ingest import mark
from streamer.webrtc.hooks import complete_on_marker

COMPARE_EVERY = 5
"""Frames: one in so many is compared with its original."""
_COLOUR_REACH = 14
_ANNOTATED_PIXELS = 60
"""Chroma pixels of the member's colour that make a picture an annotated one: some centimetres of contour."""


class Notes:
    """What one viewer saw. Bound: a few numbers a frame, for as long as it runs."""

    def __init__(self, clip: np.ndarray | None) -> None:
        self._clip = clip
        self.seen_at: list[float] = []
        """`time.monotonic()` of each decoded frame."""
        self.latency_ms: list[int | None] = []
        self.errors: list[float] = []
        """Mean squared errors of luma."""
        self.size: tuple[int, int] | None = None
        self.annotated_at: float | None = None

    def take(self, frame: av.VideoFrame) -> None:
        """Note one decoded frame."""
        luma = _plane(frame, 0)
        clock = mark.read(luma)
        self.seen_at.append(time.monotonic())
        self.latency_ms.append(None if clock is None else mark.age_ms(clock))
        self.size = (frame.width, frame.height)
        if self._clip is not None and len(self.seen_at) % COMPARE_EVERY == 0:
            number = mark.read(luma[content.NUMBER_ROW :])
            error = None if number is None else content.luma_error(luma, self._clip, number)
            if error is not None:
                self.errors.append(error)

    def look_for_annotation(self, frame: av.VideoFrame) -> None:
        """Note the time of the first picture in which the member's colour is drawn."""
        if self.annotated_at is None:
            near_u = np.abs(_plane(frame, 1).astype(np.int16) - MEMBER.u) < _COLOUR_REACH
            near_v = np.abs(_plane(frame, 2).astype(np.int16) - MEMBER.v) < _COLOUR_REACH
            if int((near_u & near_v).sum()) >= _ANNOTATED_PIXELS:
                self.annotated_at = time.monotonic()
                print(f"annotated {self.annotated_at}", flush=True)

    def report(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "seen_at": self.seen_at,
            "latency_ms": self.latency_ms,
            "errors": self.errors,
            "size": self.size,
            "annotated_at": self.annotated_at,
        }


def _plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    plane = frame.planes[index]
    rows: np.ndarray = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


async def _watch(track: MediaStreamTrack, notes: Notes, annotation: bool) -> None:
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, av.VideoFrame)
        notes.take(frame)
        if annotation:
            notes.look_for_annotation(frame)


async def _view(place: str, out: Path, clip: Path | None, annotation: bool) -> None:
    stop = peer.stop_event()
    url = place if "/api/" in place else await peer.first_stream(place)
    print(f"stream {time.monotonic()}", flush=True)
    connection = peer.connection()
    transceiver = connection.addTransceiver("video", direction="recvonly")
    complete_on_marker(transceiver.receiver)
    notes = Notes(None if clip is None else content.open_clip(clip))
    session = await peer.negotiate(connection, url)
    watching = asyncio.create_task(_watch(transceiver.receiver.track, notes, annotation))
    print("watching", flush=True)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await peer.leave(connection, session)
    await watching
    peer.write_report(out, notes.report())


def main() -> None:
    """Watch until SIGTERM or the stream's end, then write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--url", required=True, help="WHEP endpoint; a service's address: its first stream, once it is there"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clip", type=Path, help="compare with this clip")
    parser.add_argument("--annotation", action="store_true", help="say when the first annotated picture is there")
    args = parser.parse_args()
    asyncio.run(_view(args.url, args.out, args.clip, args.annotation))


if __name__ == "__main__":
    main()
