"""From results to a file: the chosen people drawn, the fancam's crop, the alpha channel, the line of each frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from streamer.egress.overlay import draw, draw_names
from streamer.frames import Frame, planes
from streamer.offline import codec, cutout, fancam, lines
from streamer.offline.cast import Cast
from streamer.offline.clip import Clip, ClipFrame, Sound
from streamer.offline.clock import PTS_RATE
from streamer.offline.fancam import Fancam, View, parse_aspect
from streamer.offline.output import Kind, Output
from streamer.offline.pipeline import Ahead, Behind
from streamer.service.settings import VideoSettings
from streamer.tracks import FrameResult, Style
from streamer.vision.cuts import CutDetector

__all__ = ["Film", "Look", "Seen", "line_of", "parse_aspect", "shoot"]

T = TypeVar("T")

_QUEUED = 6
"""Pictures between two stages: enough to even out a look for faces, small enough for 4K."""


@dataclass(frozen=True, slots=True)
class Look:
    """How an output looks."""

    style: Style = "annotated"
    fancam: float | None = None
    """Width by height of a crop that follows the first-named member; None: the whole picture."""
    transparent: bool = False
    """The chosen people (or their object) alone, with an alpha channel."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture and what vision says about it."""

    picture: ClipFrame
    frame: Frame | None
    """None: it is in the output already, and only its result counts."""
    result: FrameResult
    line: bytes | None
    """Of the sidecar."""
    packet: Any = None
    """The encoded picture that an earlier run left."""


class Film:
    """Draws and writes, in the order of the frames. Used by one thread."""

    def __init__(
        self,
        path: Path,
        sidecar: Path | None,
        clip: Clip,
        cast: Cast,
        look: Look,
        video: VideoSettings,
        comment: str | None = None,
    ) -> None:
        """`path`, `sidecar`: temporary names; `comment`: for the video's metadata.

        Raises:
            OutputError: the files cannot be made.
        """
        self._cast, self._look = cast, look
        info = clip.info
        self._fancam: Fancam[Seen] | None = None
        size = (info.width, info.height)
        if look.fancam is not None:
            self._fancam = Fancam(info.width, info.height, look.fancam, info.fps)
            size = self._fancam.size
        self._cuts = CutDetector()
        self.size = size
        kind = Kind(codec.choose(path.suffix, look.transparent, video), size)
        self.output = Output(path, sidecar, clip, kind, comment)
        self.seen = dict.fromkeys(cast.members, 0)
        """Frames on which each member is."""
        self._step = PTS_RATE / info.fps
        self._last_pts: int | None = None

    @property
    def seconds(self) -> float:
        """Length so far: up to the end of the last picture that was put."""
        return 0.0 if self._last_pts is None else (self._last_pts + self._step) / PTS_RATE

    def put(self, item: Seen | Sound) -> None:
        """The next picture, or sound."""
        if isinstance(item, Sound):
            self.output.hear(item)
            return
        pts = item.picture.pts
        self._step = self._step if self._last_pts is None else pts - self._last_pts
        self._last_pts = pts
        for track in self._cast.seen(item.result):
            if track.name is not None:
                self.seen[track.name] += 1
        if self._fancam is None:
            self._write(item, None)
            return
        for seen, view in self._follow(self._fancam, item):
            self._write(seen, view)

    def finish(self) -> None:
        """Write what waits for what would come, and end the file."""
        if self._fancam is not None:
            for seen, view in self._fancam.finish():
                self._write(seen, view)
        self.output.finish()

    def _follow(self, camera: Fancam[Seen], item: Seen) -> Iterator[tuple[Seen, View]]:
        cut = item.frame is not None and self._cuts.step(item.frame.i420)
        yield from camera.step(item, self._cast.lead(item.result), cut)

    def _write(self, seen: Seen, view: View | None) -> None:
        if seen.frame is None:
            self.output.copy(seen.packet, seen.line)
            return
        i420, alpha = drawn(seen.frame, seen.result, self._cast, self._look, view, self.size)
        self.output.write(i420, alpha, seen.picture.pts, seen.line)


def shoot(
    film: Film,
    read: Iterator[T],
    told: Callable[[Iterator[T]], Iterator[Seen | Sound]],
    stop: threading.Event,
) -> bool:
    """Make the film: `read` on a thread, `told` of it in this one, drawn and encoded on another; then it is whole.

    True: `stop` was set before the end; the film is whole up to there, or given up where nothing was put. After an
    error it is given up.
    """
    stopped = False

    def until_stopped(items: Iterator[T]) -> Iterator[T]:
        nonlocal stopped
        for item in items:
            if stop.is_set():
                stopped = True
                return
            yield item

    try:
        with Ahead(read, _QUEUED, "decode") as items:
            behind = Behind(film.put, _QUEUED, "encode")
            try:
                for item in told(until_stopped(iter(items))):
                    behind.put(item)
                behind.join()
            except BaseException:
                behind.abandon()
                raise
        if stopped and not film.seconds:
            film.output.abandon()
        else:
            film.finish()
    except BaseException:
        film.output.abandon()
        raise
    return stopped


def drawn(
    frame: Frame, result: FrameResult, cast: Cast, look: Look, view: View | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """`frame` as it looks in the output: its I420 at `size` (width, height), and the alpha channel if there is one.

    `view`: what of it is shown; None: all, and `size` is the frame's own.
    """
    if look.transparent:
        alpha = cutout.soft(cutout.chosen_mask(result, cast))
        if view is None:
            return frame.i420, alpha
        return fancam.show(frame.i420, view, size), fancam.show_plane(alpha, view, size, fill=False)
    scene, target = cast.scene(result)
    if view is None:
        return draw(frame, scene, look.style, target), None
    # Names come after the crop: else its edges would cut them, and an opening view would make them tiny.
    i420 = fancam.show(draw(frame, scene, look.style, target, names=False), view, size)
    if look.style == "annotated":
        draw_names(planes(i420), scene, target, lambda box: view.place(box, size))
    return i420, None


def line_of(picture: ClipFrame, result: FrameResult, part: bool, made_of: dict[str, Any]) -> bytes:
    """The sidecar's line; `part`: the input was not read from its start. The first one says what it is `made_of`."""
    return lines.line(result, picture.source_seconds if part else None, None if picture.index else made_of)
