"""Reading pictures out of an opened PyAV container, whatever lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.error import InvalidDataError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from streamer.errors import SourceUnusable

_MAX_CORRUPT_READS = 200
"""Reads in a row that may fail before what is left of an input is given up."""


def find_video(container: InputContainer, name: str) -> VideoStream:
    """The first video stream of `container` that is no cover picture and can be decoded.

    Raises:
        SourceUnusable: there is none; the message calls the input `name`.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        others = sorted({stream.type for stream in container.streams if stream.type is not None} - {"video"})
        found = f"it holds only {' and '.join(others)}" if others else "it holds no stream at all"
        raise SourceUnusable(f"{name} has no video: {found}; choose an input with a picture")
    for stream in videos:
        # A stream without a decoder has no codec context, whatever the stub of PyAV says.
        if getattr(stream, "codec_context", None) is not None:
            return stream
    raise SourceUnusable(f"{name}: there is no decoder here for its video; re-encode it as H.264")


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Packets of `streams` up to the end, then an empty one that flushes each decoder. Unreadable ones are skipped.

    Raises:
        av.error.FFmpegError: the transport failed.
    """
    failures = 0
    while failures < _MAX_CORRUPT_READS:
        try:
            for packet in container.demux(*streams):
                failures = 0
                yield packet
        except InvalidDataError:
            failures += 1
        else:
            return


def decode(packet: Packet[VideoStream]) -> list[av.VideoFrame]:
    """Pictures that come out when `packet` goes in; none where it is corrupt or lacks its keyframe."""
    try:
        return packet.decode()
    except av.error.FFmpegError:
        # Decoders have many words for a bad packet; an input that never gives a picture is noticed by who waits for it.
        return []


def seconds(frame_or_packet: av.VideoFrame | Packet[VideoStream]) -> float | None:
    """Presentation time on the input's own clock; None where it carries none."""
    pts, base = frame_or_packet.pts, frame_or_packet.time_base
    return None if pts is None or base is None else float(pts * base)


def frame_rate(stream: VideoStream) -> float | None:
    """Frames per second that the container states."""
    rate = stream.average_rate or stream.base_rate
    return float(rate) if rate else None


def pixel_aspect(stream: VideoStream) -> Fraction | None:
    """Width by height of one pixel; None: not stated."""
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or None
