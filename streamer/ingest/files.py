"""Video files, played in real time."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from streamer.errors import SourceUnusable
from streamer.frames import Frame
from streamer.ingest import reading
from streamer.ingest.convert import to_i420
from streamer.ingest.source import ThreadedSource
from streamer.ingest.timeline import MAX_STEP_SECONDS, Timeline

log = logging.getLogger(__name__)

_OPTIONS = {"protocol_whitelist": "file"}
"""A playlist from a stranger must not make this machine fetch addresses."""
_LATE_SECONDS = 0.5
"""Decoding that lags more than this slows the file down instead of being made up for by a burst."""
_REPEAT_SECONDS = 0.5
"""A picture that stands longer is sent again: viewers that join see it, and frames are never a second apart."""


class FileSource(ThreadedSource):
    """A file that PyAV can open, paced by its time stamps, once or in a loop.

    The pace is real time whatever the consumer does: a slow one misses frames in the slot. Pauses up to ten seconds are
    kept (the picture is repeated), longer ones are taken for broken time stamps.
    """

    kind: ClassVar[str] = "file"

    def __init__(self, path: Path | str, loop: bool = True, max_size: tuple[int, int] = (1920, 1080)) -> None:
        """`max_size` is width and height in pixels; larger pictures are scaled down while decoding."""
        super().__init__()
        self.path = Path(path)
        self.loop = loop
        self._max_size = max_size
        self._pace = _Pace()
        self._last: tuple[np.ndarray, float] | None = None

    def describe(self) -> dict[str, object]:
        """Kind, path and loop."""
        return {"kind": self.kind, "path": str(self.path), "loop": self.loop}

    def check(self) -> None:
        """Open the file and close it again, to refuse one that will never play before a stream is made of it.

        Blocks for some milliseconds.

        Raises:
            SourceUnusable: it is missing, unreadable, empty, no video, or has sound alone.
        """
        with opened(self.path):
            pass

    def _play(self) -> None:
        while not self._stopping.is_set():
            with opened(self.path) as (container, stream):
                self._timeline.announce(reading.frame_rate(stream))
                first = True
                while self._play_once(container, stream):
                    if not self.loop:
                        return
                    first = False
                    if self._stopping.is_set() or not _rewind(container, stream):
                        break
                    self._timeline.restart()
                else:
                    if first:
                        raise SourceUnusable(f"{self.path}: not one picture in it can be decoded; re-encode it")
            self._timeline.restart()

    def _play_once(self, container: InputContainer, stream: VideoStream) -> int:
        """Show what is left of the file; the number of pictures."""
        shown = 0
        aspect = reading.pixel_aspect(stream)
        began = time.monotonic()
        for packet in reading.packets(container, stream):
            for picture in reading.decode(packet):
                pts_seconds = self._timeline.step(reading.seconds(picture))
                decode_seconds = time.monotonic() - began
                self._hold(pts_seconds)
                if self._stopping.is_set():
                    return shown + 1
                # As if it had been decoded just in time: what waits for its moment is not late.
                captured_at = time.monotonic() - decode_seconds
                i420 = to_i420(picture, self._max_size, aspect)
                self._publish(i420, pts_seconds, captured_at, time.monotonic() - captured_at)
                self._last = (i420, pts_seconds)
                shown += 1
                began = time.monotonic()
        return shown

    def _hold(self, pts_seconds: float) -> None:
        """Wait until a picture of `pts_seconds` is due, showing the last one again where that takes long."""
        while self._last is not None and pts_seconds - self._last[1] > MAX_STEP_SECONDS:
            i420, shown_at = self._last
            again_at = shown_at + _REPEAT_SECONDS
            if self._stopping.wait(self._pace.until(again_at)):
                return
            self._publish(i420, again_at, time.monotonic(), 0.0)
            self._last = (i420, again_at)
        self._stopping.wait(self._pace.until(pts_seconds))


def read_frames(path: Path, max_size: tuple[int, int] = (1920, 1080)) -> Iterator[Frame]:
    """Every picture of a video file, in order and as fast as they are taken; `index` counts decoded pictures.

    Raises:
        SourceUnusable: it is missing, unreadable, no video, or nothing in it can be decoded.
    """
    timeline = Timeline()
    index = 0
    with opened(path) as (container, stream):
        timeline.announce(reading.frame_rate(stream))
        aspect = reading.pixel_aspect(stream)
        for packet in reading.packets(container, stream):
            for picture in reading.decode(packet):
                began = time.monotonic()
                i420 = to_i420(picture, max_size, aspect)
                yield Frame(i420, index, timeline.step(reading.seconds(picture)), began, time.monotonic() - began)
                index += 1
    if index == 0:
        raise SourceUnusable(f"{path}: not one picture in it can be decoded; re-encode it")


def count_pictures(path: Path) -> int:
    """How many pictures a video file holds, without decoding them; damaged ones count.

    Raises:
        SourceUnusable: it is missing, unreadable or no video.
    """
    with opened(path) as (container, stream):
        return sum(packet.size > 0 for packet in reading.packets(container, stream))


class _Pace:
    """Ties a clock of time stamps to the wall clock."""

    def __init__(self) -> None:
        self._base: float | None = None

    def until(self, pts_seconds: float) -> float:
        """Seconds to wait for `pts_seconds`, >= 0."""
        now = time.monotonic()
        if self._base is None or now - (self._base + pts_seconds) > _LATE_SECONDS:
            self._base = now - pts_seconds
        return max(0.0, self._base + pts_seconds - now)


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, closed afterwards. Raises `SourceUnusable`, also for errors while reading."""
    _check_readable(path)
    try:
        # "file:" keeps a name with a colon in it from being taken for an address.
        with av.open(f"file:{path.absolute()}", options=_OPTIONS) as container:
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                raise SourceUnusable(f"{path} is a picture, not a video; choose a video file")
            stream = reading.find_video(container, str(path))
            # Frame threads cost latency, which a file has none of, and let two cores decode what one cannot.
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, OSError) as exc:
        raise SourceUnusable(
            f"{path} is no video that can be read here: {exc.strerror or exc}; give another file, or one that "
            "`ffmpeg -i IN OUT.mp4` made of it"
        ) from exc


def _check_readable(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as exc:
        raise SourceUnusable(f"{path}: there is no such file; check the path") from exc
    except (OSError, ValueError) as exc:
        raise SourceUnusable(f"{path} cannot be opened: {getattr(exc, 'strerror', None) or exc}") from exc
    if stat.S_ISDIR(status.st_mode):
        raise SourceUnusable(f"{path} is a folder; give a video file")
    if not stat.S_ISREG(status.st_mode):
        raise SourceUnusable(f"{path} is no regular file; give a video file")
    if status.st_size == 0:
        raise SourceUnusable(f"{path} is empty (0 bytes); give a video file")
    if not os.access(path, os.R_OK):
        raise SourceUnusable(f"{path} may not be read by this user; change its permissions")


def _rewind(container: InputContainer, stream: VideoStream) -> bool:
    """Go back to the start; False where the format cannot, so that it has to be opened again."""
    try:
        container.seek(container.start_time or 0)
    except av.error.FFmpegError as exc:
        log.debug("cannot seek in %s: %s", container.format.name, exc)
        return False
    return True
