"""Frames to record, and what is in a recording."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from streamer.egress.encoder import EncodedFrame
from streamer.egress.h264 import H264Encoder
from streamer.service.settings import VideoSettings
from tests.media import texture


def encoded(
    count: int, size: tuple[int, int] = (320, 240), bit_rate: int = 1_000_000, every: int = 15, start: int = 0
) -> Iterator[EncodedFrame]:
    """Frames as the encoder makes them, a keyframe every `every`, with a line for the sidecar each."""
    codec = H264Encoder("libx264", *size, 30, VideoSettings(bit_rate=bit_rate))
    for index in range(start, start + count):
        ((data, keyframe),) = codec.encode(texture(*size, index * 5), index * 3000, (index - start) % every == 0)
        line = json.dumps({"v": 1, "frame": index}).encode()
        yield EncodedFrame(data, keyframe, index * 3000, *size, index, index / 30, time.monotonic(), line)


def pictures(path: Path) -> int:
    """Frames that decode."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def lines(path: Path) -> list[dict[str, Any]]:
    """The sidecar's objects."""
    return [json.loads(line) for line in path.read_text().splitlines()]
