"""Media for the tests, made at run time with PyAV: ordinary files and every awkward kind."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

from streamer.frames import planes
from streamer.ingest import mark

__all__ = ["mark"]

MILLISECONDS = Fraction(1, 1000)


def texture(width: int, height: int, index: int = 0) -> np.ndarray:
    """(H * 3 // 2, W) uint8 I420 of even sides: gradients that drift with `index`, easy to encode, never flat."""
    i420 = np.empty((height * 3 // 2, width), np.uint8)
    y, u, v = planes(i420)
    columns, rows = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)[:, None]
    y[:] = 40 + (columns * 3 + rows * 2 + index * 4) // 4 % 160
    u[:] = 90 + (columns[: width // 2] // 4 + index) % 64
    v[:] = 100 + (rows[: height // 2] // 4 + index) % 64
    return i420


def h264_round_trip(i420: np.ndarray, bit_rate: int) -> np.ndarray:
    """`i420` after five frames of x264 at `bit_rate` and back."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.bit_rate = Fraction(1, 30), bit_rate
    encoder.options = {"preset": "superfast", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoded = []
    for pts in range(5):
        frame = av.VideoFrame.from_ndarray(i420, format="yuv420p")
        frame.pts = pts
        for packet in encoder.encode(frame):
            decoded += decoder.decode(packet)
    decoded += decoder.decode(None)
    return decoded[-1].to_ndarray()


def picture_number(i420: np.ndarray) -> int:
    """Which picture of `numbered` this is: 0..31, through any encoder and scaling."""
    height = i420.shape[0] * 2 // 3
    return round((float(i420[: height // 2].mean()) - 20) / 6)


def numbered(width: int, height: int, index: int) -> np.ndarray:
    """(H * 3 // 2, W) uint8 I420 whose upper half is as bright as `index` modulo 32 says; the lower half is dark."""
    i420 = np.full((height * 3 // 2, width), 128, np.uint8)
    i420[: height // 2] = 20 + 6 * (index % 32)
    i420[height // 2 : height] = 16
    return i420


def video(
    path: Path,
    size: tuple[int, int] = (320, 180),
    times_ms: Iterable[int] = range(0, 1000, 40),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    rate: int = 25,
    sound: bool = False,
    muxer: str | None = None,
) -> Path:
    """A video of `numbered` pictures (odd sides are cut from the next even size) shown at `times_ms`."""
    even = (max(size[0] + size[0] % 2, 2), max(size[1] + size[1] % 2, 2))
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.time_base = stream.codec_context.time_base = MILLISECONDS
        voice = _sound_track(container) if sound else None
        for index, milliseconds in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(numbered(*even, index), format="yuv420p")
            frame = _cut(frame, size).reformat(format=pixel_format)
            frame.pts, frame.time_base = milliseconds, MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            container.mux(voice.encode(None))
    return path


def audio_only(path: Path) -> Path:
    """A second of tone and no picture."""
    with av.open(str(path), "w") as container:
        container.mux(_sound_track(container).encode(None))
    return path


def rotated(path: Path, degrees_clockwise: int, size: tuple[int, int] = (320, 180)) -> Path:
    """An MP4 as phones make it: to be turned clockwise for display, as the matrix of its track header says."""
    video(path, size)
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees_clockwise]
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + len(matrix)] = matrix
    path.write_bytes(data)
    return path


def size_change(path: Path, sizes: Iterable[tuple[int, int]] = ((320, 180), (480, 270)), frames: int = 10) -> Path:
    """A raw H.264 file whose picture size changes; it has no time stamps either."""
    data = b""
    for size in sizes:
        part = video(path.with_suffix(".part"), size, range(0, frames * 40, 40), muxer="h264")
        data += part.read_bytes()
        part.unlink()
    path.write_bytes(data)
    return path


def pts_jump_back(path: Path, frames: int = 10) -> Path:
    """Two MPEG-TS recordings of the same time, one after the other."""
    part = video(path.with_suffix(".part"), times_ms=range(0, frames * 40, 40), muxer="mpegts")
    path.write_bytes(part.read_bytes() * 2)
    part.unlink()
    return path


def corrupted(path: Path) -> Path:
    """A video with noise over some packets in its middle."""
    video(path, times_ms=range(0, 2000, 40), options={"preset": "ultrafast", "g": "5"}, muxer="mpegts")
    data = bytearray(path.read_bytes())
    chance = np.random.default_rng(1)
    for start in range(len(data) // 3, len(data) // 2, 188):
        data[start + 4 : start + 188] = chance.integers(0, 256, 184, np.uint8).tobytes()
    path.write_bytes(data)
    return path


def undecodable(path: Path) -> Path:
    """A sound header, so that it opens; no picture behind it."""
    video(path)
    data = path.read_bytes()
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov", begin) - 4
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    return path


def truncated(path: Path) -> Path:
    """A Matroska file that ends in the middle of a packet."""
    whole = video(path, times_ms=range(0, 1000, 40)).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def _sound_track(container: OutputContainer) -> AudioStream:
    """An AAC stream with a second of tone encoded into it."""
    stream = container.add_stream("aac", rate=48_000)
    tone = (np.sin(np.arange(48_000) / 20) * 8000).astype(np.int16)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        container.mux(stream.encode(frame))
    return stream


def _cut(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """The top left `size` of a yuv420p frame."""
    if (frame.width, frame.height) == size:
        return frame
    cut = av.VideoFrame(*size, "yuv420p")
    for index, (source, target) in enumerate(zip(frame.planes, cut.planes, strict=True)):
        width, height = size if index == 0 else ((size[0] + 1) // 2, (size[1] + 1) // 2)
        rows = np.zeros((target.height, target.line_size), np.uint8)
        pixels = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
        rows[:height, :width] = pixels[:height, :width]
        target.update(rows.tobytes())
    return cut
