"""From results to a file: the chosen people drawn, the fancam's crop, the alpha channel, the line of each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamer.egress.overlay import draw
from streamer.frames import Frame
from streamer.offline import codec, cutout, fancam, lines
from streamer.offline.cast import Cast
from streamer.offline.clip import Clip, ClipFrame, Sound
from streamer.offline.fancam import Fancam, View, parse_aspect
from streamer.offline.output import Kind, Output
from streamer.service.settings import VideoSettings
from streamer.tracks import FrameResult, Style
from streamer.vision.cuts import CutDetector

__all__ = ["Film", "Look", "Seen", "line_of", "parse_aspect"]


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
        self, path: Path, sidecar: Path | None, clip: Clip, cast: Cast, look: Look, video: VideoSettings
    ) -> None:
        """`path`, `sidecar`: temporary names.

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
        self.output = Output(path, sidecar, clip, Kind(codec.choose(path.suffix, look.transparent, video), size))
        self.seen = dict.fromkeys(cast.members, 0)
        """Frames on which each member is."""

    def put(self, item: Seen | Sound) -> None:
        """The next picture, or sound."""
        if isinstance(item, Sound):
            self.output.hear(item)
            return
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
        i420, alpha = self._drawn(seen.frame, seen.result)
        if view is not None:
            i420 = fancam.show(i420, view, self.size)
            alpha = None if alpha is None else fancam.show_plane(alpha, view, self.size, fill=False)
        line = seen.line if seen.line is not None else None
        self.output.write(i420, alpha, seen.picture.pts, line)

    def _drawn(self, frame: Frame, result: FrameResult) -> tuple[np.ndarray, np.ndarray | None]:
        if self._look.transparent:
            return frame.i420, cutout.soft(cutout.chosen_mask(result, self._cast))
        scene, target = self._cast.scene(result)
        return draw(frame, scene, self._look.style, target), None


def line_of(picture: ClipFrame, result: FrameResult, part: bool) -> bytes:
    """The sidecar's line; `part`: the input was not read from its start."""
    return lines.line(result, picture.source_seconds if part else None)
