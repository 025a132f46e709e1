"""A video file, read from one end to the other: pictures as frames with exact times, and sound as it came."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from streamer.errors import SourceUnusable
from streamer.frames import Frame, planes
from streamer.ingest import reading
from streamer.ingest.convert import to_i420
from streamer.ingest.files import opened
from streamer.offline.clock import PTS_RATE, Clock

MAX_PIXELS = 40_000_000
"""Of one picture: beyond it a frame takes a second and a gigabyte."""
_ROOM = (16384, 16384)
_DEFAULT_FPS = 25.0
_LEADING_SECONDS = 0.1
"""Sound that begins earlier than the picture by more than this is kept whole; less is the encoder's own delay."""
_INTERLEAVE_SECONDS = 2.0
"""How far a file may keep sound and picture of one moment apart."""
_ENCRYPTED_TAGS = ("encv", "enca", "drmi", "drms")
_STANDARD_FPS = (0.5, 240.0)


@dataclass(frozen=True, slots=True)
class Colours:
    """How a picture's YCbCr is meant, as FFmpeg numbers it; carried through untouched, HDR included."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2

    @property
    def is_hdr(self) -> bool:
        """The transfer is PQ or HLG."""
        return self.transfer in (16, 18)


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What is known of a file before its end is reached."""

    path: Path
    width: int
    """Pixels as shown: turned, with square pixels, even."""
    height: int
    fps: float
    frames: int | None
    """Pictures as the container says or as length and rate let expect; None: it does not say."""
    seconds: float | None
    colours: Colours
    codec: str
    sounds: int
    """Sound tracks."""


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One picture of a clip."""

    index: int
    """0, 1, 2, … of what is read (after `from`)."""
    pts: int
    """1/90000 s on the clock of the output, which the sound shares; rises strictly."""
    source_seconds: float
    """The same moment on the clock of the input."""
    frame: Frame | None
    """None: it was asked not to convert this one."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One packet of sound, its times on the clock of the output."""

    packet: Packet[AudioStream]
    track: int
    """0, 1, …: which sound track."""
    seconds: float
    """When it is heard."""


class Clip:
    """An opened video file. Context manager; read once. Used by one thread at a time."""

    def __init__(self, path: Path, from_seconds: float | None = None, to_seconds: float | None = None) -> None:
        """Open and look at the first picture.

        Args:
            path: the file.
            from_seconds: where to begin, from the start of the file; None: there.
            to_seconds: where to end.

        Raises:
            SourceUnusable: missing, empty, no video, encrypted, too large a picture, not one picture can be decoded,
                or nothing lies between `from_seconds` and `to_seconds`.
        """
        self.path = path
        self._context = opened(path)
        self._container, self._video = self._context.__enter__()
        try:
            self.sound_streams = [stream for stream in self._container.streams.audio if _decodable(stream)]
            _check_clear(path, self._container)
            _check_size(path, self._video.codec_context.width, self._video.codec_context.height)
            self._stat = _identity(path)
            self._aspect = reading.pixel_aspect(self._video)
            self._fps = _sane_fps(reading.frame_rate(self._video))
            self._origin = self._find_origin()
            self._to = None if to_seconds is None else self._origin + to_seconds
            self._from = None if not from_seconds else self._origin + from_seconds
            self._items = self._decoded()
            self._first: list[Any] = []
            self.info = self._look(from_seconds, to_seconds)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the file. Twice is fine."""
        context, self._context = self._context, None  # type: ignore[assignment]
        if context is not None:
            context.__exit__(None, None, None)

    def read(self, done: int = 0) -> Iterator[ClipFrame | Sound]:
        """Pictures and sound in the order of the file; the first `done` pictures are not converted.

        Raises:
            SourceUnusable: the file changed while it was read, or cannot be read any further.
        """
        clock = Clock(self._fps)
        start: float | None = None
        waiting: list[tuple[Packet[AudioStream], int]] = []
        index = 0
        for item in self._replayed():
            if isinstance(item, tuple):
                if start is None:
                    waiting.append(item)
                    del waiting[:-_PATIENCE]
                else:
                    yield from self._sound(item, start, clock)
                continue
            began = time.monotonic()
            shown = clock.step(reading.seconds(item))
            if start is None:
                start = self._start(shown, waiting)
            pts = clock.ticks(shown - start)
            if index == 0:
                for early in waiting:
                    yield from self._sound(early, start, clock)
            frame = None
            if index >= done:
                i420 = fit(to_i420(item, _ROOM, self._aspect), self.info.width, self.info.height)
                frame = Frame(i420, index, pts / PTS_RATE, began, time.monotonic() - began)
            yield ClipFrame(index, pts, shown - self._origin, frame)
            index += 1
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raises `SourceUnusable` where the file is not the one that was opened."""
        if _identity(self.path) != self._stat:
            raise SourceUnusable(
                f"{self.path} changed while it was read; wait until it is written completely, then start again"
            )

    # What comes out of the container

    def _look(self, from_seconds: float | None, to_seconds: float | None) -> ClipInfo:
        for item in self._items:
            self._first.append(item)
            if not isinstance(item, tuple):
                break
        else:
            if from_seconds or to_seconds is not None:
                until = "the end" if to_seconds is None else f"{to_seconds:g} s"
                raise SourceUnusable(
                    f"{self.path}: no picture lies between {from_seconds or 0:g} s and {until}; choose other times"
                )
            raise SourceUnusable(f"{self.path}: not one picture in it can be decoded; re-encode it")
        picture = self._first[-1]
        i420 = to_i420(picture, _ROOM, self._aspect)
        seconds = _length(self._container, self._video)
        frames = self._video.frames or (round(seconds * self._fps) if seconds else 0)
        if seconds is not None and (from_seconds or to_seconds is not None):
            end = seconds if to_seconds is None else min(seconds, to_seconds)
            part = max(0.0, end - (from_seconds or 0.0))
            frames, seconds = round(frames * part / seconds), part
        return ClipInfo(
            path=self.path,
            width=i420.shape[1],
            height=i420.shape[0] * 2 // 3,
            fps=self._fps,
            frames=frames or None,
            seconds=seconds,
            colours=_colours(picture),
            codec=self._video.codec_context.name,
            sounds=len(self.sound_streams),
        )

    def _replayed(self) -> Iterator[Any]:
        first, self._first = self._first, []
        yield from first
        yield from self._items

    def _decoded(self) -> Iterator[Any]:
        """Decoded pictures, and (packet, track) of sound, between `from` and `to`."""
        try:
            if self._from is not None:
                self._seek(self._from)
            yield from self._between()
        except (av.error.FFmpegError, OSError) as exc:
            raise SourceUnusable(f"{self.path} cannot be read any further: {exc.strerror or exc}") from exc

    def _between(self) -> Iterator[Any]:
        tracks = {stream.index: track for track, stream in enumerate(self.sound_streams)}
        half = 0.5 / self._fps
        ended = False
        for packet in reading.packets(self._container, self._video, *self.sound_streams):
            # Not `packet.stream_index`: it is 0 in the empty packets at the end, whatever their stream.
            track = tracks.get(packet.stream.index)
            if track is not None:
                at = _heard(packet)
                if at is not None:
                    if ended and self._to is not None and at >= self._to:
                        return
                    yield packet, track
                continue
            if ended:
                # The sound up to the same moment may lie a little further on in the file.
                at = reading.seconds(packet)
                if not tracks or (at is not None and self._to is not None and at > self._to + _INTERLEAVE_SECONDS):
                    return
                continue
            if packet.has_sidedata("encryption_info"):
                raise encrypted(self.path)
            for picture in reading.decode(packet):
                at = reading.seconds(picture)
                if at is not None and self._from is not None and at < self._from - half:
                    continue
                if at is not None and self._to is not None and at >= self._to - half:
                    ended = True
                    break
                yield picture

    def _seek(self, seconds: float) -> None:
        base = self._video.time_base or Fraction(1, PTS_RATE)
        try:
            self._container.seek(int(seconds / base), stream=self._video)
        except av.error.FFmpegError:
            # A format that cannot seek is read from its start: what lies before is decoded and dropped.
            return

    def _find_origin(self) -> float:
        """The file's own zero on the clock of its pictures: as players count, and as the output begins."""

        def start(stream: VideoStream | AudioStream) -> float | None:
            known = stream.start_time is not None and stream.time_base is not None
            return float(stream.start_time * stream.time_base) if known else None  # type: ignore[operator]

        picture = start(self._video) or 0.0
        heard = [at for stream in self.sound_streams if (at := start(stream)) is not None]
        return min((at for at in heard if at < picture - _LEADING_SECONDS), default=picture)

    def _start(self, shown: float, waiting: list[tuple[Packet[AudioStream], int]]) -> float:
        """What becomes zero in the output: the first picture, or sound that begins well before it."""
        if self._from is not None:
            return shown
        starts = [_heard(packet) for packet, _ in waiting]
        first = min((at for at in starts if at is not None), default=shown)
        return first if first < shown - _LEADING_SECONDS else shown

    def _sound(self, item: tuple[Packet[AudioStream], int], start: float, clock: Clock) -> Iterator[Sound]:
        packet, track = item
        at = _heard(packet)
        if at is None:
            return
        at += clock.shift
        length = float((packet.duration or 0) * packet.time_base)
        if self._from is not None and at + length <= start:
            return
        if self._to is not None and at >= self._to:
            return
        base = packet.time_base
        move = round((clock.shift - start) / base)
        packet.pts = None if packet.pts is None else packet.pts + move
        packet.dts = None if packet.dts is None else packet.dts + move
        yield Sound(packet, track, at - start)


_PATIENCE = 4096
"""Packets of sound that may come before the first picture."""


def fit(i420: np.ndarray, width: int, height: int) -> np.ndarray:
    """`i420` at another size, its aspect kept, black around it: a file whose picture changes its size half way."""
    have_height, have_width = i420.shape[0] * 2 // 3, i420.shape[1]
    if (have_width, have_height) == (width, height):
        return i420
    scale = min(width / have_width, height / have_height)
    inner = max(2, int(have_width * scale) & ~1), max(2, int(have_height * scale) & ~1)
    left, top = (width - inner[0]) // 4 * 2, (height - inner[1]) // 4 * 2
    fitted = np.full((height * 3 // 2, width), 128, np.uint8)
    fitted[:height] = 16
    for number, (source, target) in enumerate(zip(planes(i420), planes(fitted), strict=True)):
        part = 1 if number == 0 else 2
        area = (slice(top // part, (top + inner[1]) // part), slice(left // part, (left + inner[0]) // part))
        target[area] = cv2.resize(source, (inner[0] // part, inner[1] // part), interpolation=cv2.INTER_AREA)
    return fitted


def _heard(packet: Packet[AudioStream]) -> float | None:
    at = packet.pts if packet.pts is not None else packet.dts
    return None if at is None else float(at * packet.time_base)


def _decodable(stream: AudioStream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _check_clear(path: Path, container: InputContainer) -> None:
    for stream in (*container.streams.video, *container.streams.audio):
        if getattr(stream, "codec_tag", "") in _ENCRYPTED_TAGS or "encryption" in str(stream.metadata).lower():
            raise encrypted(path)


def encrypted(path: Path) -> SourceUnusable:
    """The refusal of a file with copy protection."""
    return SourceUnusable(f"{path} is encrypted (DRM) and cannot be decoded; choose a file without copy protection")


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SourceUnusable(
            f"{path}: pictures of {width}x{height} are {width * height / 1e6:.0f} megapixels, above the limit of "
            f"{MAX_PIXELS / 1e6:.0f}; scale the video down first"
        )


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1, -1)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sane_fps(fps: float | None) -> float:
    return fps if fps is not None and _STANDARD_FPS[0] <= fps <= _STANDARD_FPS[1] else _DEFAULT_FPS


def _length(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1_000_000


def _colours(picture: av.VideoFrame) -> Colours:
    def number(value: Any, fallback: int = 2) -> int:
        return int(value) if value is not None else fallback

    if picture.format.is_rgb:
        return Colours()
    return Colours(
        number(getattr(picture, "color_primaries", 2)),
        number(getattr(picture, "color_trc", 2)),
        number(picture.colorspace),
    )
