"""Another look of a video that was seen before: from the clip and its sidecar, without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer.errors import SourceUnusable, StreamerError
from streamer.offline import destination, lines, resume
from streamer.offline.cast import Cast
from streamer.offline.clip import PTS_RATE, Clip, ClipFrame, Sound
from streamer.offline.film import Film, Look, Seen
from streamer.offline.pipeline import Ahead, Behind
from streamer.offline.progress import Meter, OnProgress
from streamer.offline.resume import Names
from streamer.offline.video import VideoResult
from streamer.service.settings import VideoSettings
from streamer.tracks import FrameResult

_QUEUED = 6
_BEYOND_SECONDS = 2.0
"""What is read of a clip after the last frame wanted, for the sound that belongs to it."""
_NEAR_SECONDS = 0.004
"""Times in a sidecar are rounded; frames are further apart than this."""


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """What is to be made of a clip and its sidecar."""

    clip: Path
    sidecar: Path
    output: Path
    look: Look = field(default_factory=Look)
    members: tuple[str, ...] = ()
    """Who is shown; empty: everybody whom the sidecar names."""

    def check(self) -> None:
        """Raises `OutputError` where the output cannot be written."""
        destination.check_video(self.output, self.look.transparent, [self.clip, self.sidecar])


def render(
    order: RenderOrder, video: VideoSettings, on_progress: OnProgress | None = None, stop: threading.Event | None = None
) -> VideoResult:
    """Make the output. `stop`, when set, ends the work; nothing is left then.

    Raises:
        SourceUnusable: the clip or the sidecar cannot be read, they do not belong together, the sidecar names nobody.
        OutputError: the output cannot be written.
    """
    order.check()
    began = time.monotonic()
    meter = Meter(on_progress)
    meter.stage("reading the sidecar")
    story = _Story.read(order.sidecar)
    cast = _cast(order, story)
    names = Names(order.output, None)
    halt = stop or threading.Event()
    to_seconds = None if story.last_seconds is None else story.last_seconds + _BEYOND_SECONDS
    with Clip(order.clip, story.from_seconds, to_seconds) as clip:
        meter.total = story.lines
        meter.stage("drawing")
        try:
            film, seconds, interrupted = _run(order, story, cast, clip, names, video, meter, halt)
        except (StreamerError, MemoryError):
            resume.discard(names)
            raise
        if interrupted:
            resume.discard(names)
        else:
            resume.settle(names, whole=True)
        meter.finish()
        missing = (
            []
            if interrupted or film.output.frames == story.lines
            else [f"{film.output.frames} pictures, and {story.lines} lines in the sidecar: it may be of another file"]
        )
        return VideoResult(
            output=order.output,
            sidecar=None,
            frames=film.output.frames,
            seconds=round(seconds, 3),
            size=film.size,
            fps=round(clip.info.fps, 3),
            seen=film.seen,
            elapsed_seconds=round(time.monotonic() - began, 3),
            codec=film.output.codec,
            interrupted=interrupted,
            notes=[*film.output.notes, *missing],
        )


@dataclass(frozen=True, slots=True)
class _Story:
    """What a sidecar tells, without its masks."""

    path: Path
    lines: int
    members: tuple[str, ...]
    """Whom it names, most often seen first."""
    prompt: str | None
    """The object that was asked for."""
    from_seconds: float | None
    """Of a part of a file: when its first frame is shown, on the clip's clock."""
    last_seconds: float | None
    """When its last one is."""

    @classmethod
    def read(cls, path: Path) -> _Story:
        count, seen, prompt = 0, dict[str, int](), None
        starts: float | None = None
        last: float | None = None
        with lines.Sidecar(path) as sidecar:
            for said in sidecar:
                count += 1
                if lines.SOURCE_PTS in said:
                    last = said[lines.SOURCE_PTS]
                    starts = last if starts is None else starts
                for track in said["tracks"]:
                    if track["name"] is not None:
                        seen[track["name"]] = seen.get(track["name"], 0) + 1
                    if track.get("object"):
                        prompt = track["object"]["prompt"]
        if not count:
            raise SourceUnusable(f"{path}: not one line in this sidecar; give the .jsonl written beside a video")
        members = tuple(sorted(seen, key=lambda name: -seen[name]))
        return cls(path, count, members, prompt, starts or None, last)


def _cast(order: RenderOrder, story: _Story) -> Cast:
    members = order.members or story.members
    if not members:
        # Nobody was ever seen: every style still says so, frame by frame.
        members = ("nobody",)
    return Cast(members, story.prompt, order.look.style == "only")


def _run(
    order: RenderOrder,
    story: _Story,
    cast: Cast,
    clip: Clip,
    names: Names,
    video: VideoSettings,
    meter: Meter,
    stop: threading.Event,
) -> tuple[Film, float, bool]:
    film = Film(names.part, None, clip, cast, order.look, video)
    last: list[int] = []
    try:
        with (
            lines.Sidecar(order.sidecar) as sidecar,
            Ahead(_matched(clip, sidecar, story), _QUEUED, "decode") as items,
        ):
            behind = Behind(film.put, _QUEUED, "encode")
            try:
                for item in items:
                    if stop.is_set():
                        break
                    if isinstance(item, Seen):
                        last = [*last[-1:], item.picture.pts]
                        meter.step()
                    behind.put(item)
                behind.join()
            except BaseException:
                behind.abandon()
                raise
        film.finish()
    except BaseException:
        film.output.abandon()
        raise
    step = last[-1] - last[-2] if len(last) > 1 else PTS_RATE / clip.info.fps
    return film, (last[-1] + step) / PTS_RATE if last else 0.0, stop.is_set()


def _matched(clip: Clip, sidecar: lines.Sidecar, story: _Story) -> Iterator[Seen | Sound]:
    """Pictures with the results that belong to them. A picture without a line has an empty one, or is left out where
    the lines are of a part of the file."""
    said = iter(sidecar)
    end: float | None = None
    line = next(said, None)
    size = clip.info.width, clip.info.height
    for item in clip.read():
        if isinstance(item, Sound):
            if end is None or item.seconds < end:
                yield item
            continue
        if line is None and story.last_seconds is not None:
            end = end or item.pts / PTS_RATE
            continue
        while line is not None and _is_before(line, item):
            line = next(said, None)
        if line is not None and _is_of(line, item):
            _check_shape(line, size, sidecar.path)
            result = lines.result(line, size)
            line = next(said, None)
        else:
            result = _nothing(item, size)
        yield Seen(item, item.frame, result, None)


def _is_of(line: dict[str, Any], item: ClipFrame) -> bool:
    """Without times of the input, the n-th line is the n-th picture's: numbers in recordings of streams have gaps."""
    return lines.SOURCE_PTS not in line or bool(abs(line[lines.SOURCE_PTS] - item.source_seconds) <= _NEAR_SECONDS)


def _is_before(line: dict[str, Any], item: ClipFrame) -> bool:
    return lines.SOURCE_PTS in line and bool(line[lines.SOURCE_PTS] < item.source_seconds - _NEAR_SECONDS)


def _check_shape(line: dict[str, Any], size: tuple[int, int], path: Path) -> None:
    width, height = line["size"]
    if abs(width * size[1] - height * size[0]) > 0.02 * width * size[1]:
        raise SourceUnusable(
            f"{path} tells of pictures of {width}x{height}, the clip's are {size[0]}x{size[1]}: "
            "they do not belong together"
        )


def _nothing(item: ClipFrame, size: tuple[int, int]) -> FrameResult:
    return FrameResult(item.index, item.pts / PTS_RATE, *size, "none", False, (), None)
