"""A video file in, a video file and its sidecar out: decoding, vision and encoding side by side, memory flat."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from streamer.errors import OutputError, SourceUnusable, StreamerError
from streamer.frames import Frame
from streamer.offline import codec, destination, lines, record, resume
from streamer.offline.cast import Cast
from streamer.offline.clip import Clip, ClipFrame, Sound
from streamer.offline.film import Film, Look, Seen, line_of, shoot
from streamer.offline.hindsight import Hindsight
from streamer.offline.output import copied
from streamer.offline.progress import Meter, OnProgress
from streamer.offline.resume import Leftover, Names
from streamer.offline.sight import Sight, Watcher
from streamer.service.settings import Settings
from streamer.tracks import FrameResult

_WARM_UP_FRAMES = 20
"""Frames that vision sees again before it goes on with a file, so that names do not start from nothing."""
_ANEW = "choose another name, or delete it (or leave --resume out) to make it anew"
_SHORT_SECONDS = 1.0
"""A file that ends earlier than it says by more than this is damaged."""


@dataclass(frozen=True, slots=True)
class VideoOrder:
    """What is to be done with one video file."""

    clip: Path
    output: Path
    """`.mp4`, `.mov`, `.mkv`; `.mov` or `.webm` with an alpha channel."""
    cast: Cast
    look: Look = field(default_factory=Look)
    sidecar: Path | None = None
    """JSON lines; None: beside the output, with the suffix `.jsonl`."""
    every: int = 1
    """Names and masks are sought on every n-th frame, and carried along in between."""
    from_seconds: float | None = None
    to_seconds: float | None = None
    resume: bool = False
    """Go on with what a stopped run left; an output that is finished, and is what is asked for, is left as it is."""

    @property
    def names(self) -> Names:
        """The files that are written."""
        return Names(self.output, self.sidecar or self.output.with_suffix(".jsonl"))

    def check(self) -> None:
        """Raises `OutputError` where the output cannot be written, whatever the input is."""
        names = self.names
        assert names.sidecar is not None
        destination.check_video(names.video, self.look.transparent, [self.clip])
        destination.check_file(names.sidecar, [self.clip, names.video])


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What became of a video file."""

    output: Path
    sidecar: Path | None
    frames: int
    """Pictures in the output."""
    seconds: float
    """Length of the output."""
    size: tuple[int, int]
    """Pixels of the output: width, height."""
    fps: float
    """Of the input."""
    seen: dict[str, int]
    """Frames on which each member is; 0: never seen."""
    elapsed_seconds: float
    codec: str
    interrupted: bool = False
    """Stopped before the end; `resume` goes on."""
    resumed_frames: int = 0
    """Pictures that an earlier run had made."""
    already: bool = False
    """The output was finished before, and nothing was done to it."""
    notes: list[str] = field(default_factory=list)
    """What a user should know, a line each."""

    @property
    def outputs(self) -> list[str]:
        """Paths of the files."""
        return [str(path) for path in (self.output, self.sidecar) if path is not None]

    @property
    def never_seen(self) -> list[str]:
        """Members who are not in the file at all."""
        return [name for name, frames in self.seen.items() if not frames]

    @classmethod
    def of(
        cls,
        film: Film,
        clip: Clip,
        names: Names,
        began: float,
        notes: list[str],
        *,
        interrupted: bool,
        resumed_frames: int = 0,
    ) -> Self:
        """What became of a film; `began`: `time.monotonic()` when the work did."""
        return cls(
            output=names.video,
            sidecar=names.sidecar,
            frames=film.output.frames,
            seconds=round(film.seconds, 3),
            size=film.size,
            fps=round(clip.info.fps, 3),
            seen=film.seen,
            elapsed_seconds=round(time.monotonic() - began, 3),
            codec=film.output.codec,
            interrupted=interrupted,
            resumed_frames=resumed_frames,
            notes=[*film.output.notes, *notes],
        )

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        said = asdict(self)
        said["output"], said["sidecar"] = str(self.output), None if self.sidecar is None else str(self.sidecar)
        return {**said, "size": list(self.size), "outputs": self.outputs, "never_seen": self.never_seen}


def process(
    order: VideoOrder, sight: Sight, on_progress: OnProgress | None = None, stop: threading.Event | None = None
) -> VideoResult:
    """Do it. `stop`, when set, ends the work after the frame under way; the files are whole up to there.

    A file that is there already is replaced once the new one is whole: a run that is stopped before leaves what it made
    under the names that the result says, beside it. With `order.resume` a finished file is left as it is.

    Raises:
        SourceUnusable: the clip cannot be read, or changed meanwhile; nothing is left.
        OutputError: the output cannot be written; what was written is kept under its temporary name for `resume`. Or
            `resume` finds something there that it cannot go on with, or that is not what is asked for.
        PromptUnsupported: the engine cannot answer the object prompt.
    """
    order.check()
    done = finished(order, sight.settings)
    if done is not None:
        return done
    began = time.monotonic()
    meter = Meter(on_progress)
    with Clip(order.clip, order.from_seconds, order.to_seconds) as clip:
        processor = sight.processor(order.cast, every=order.every)
        processor.close()
        made_of = _made_of(order, clip, sight)
        leftover = resume.find(order.names, made_of) if order.resume else None
        if leftover is None:
            resume.discard(order.names)
        meter.total = clip.info.frames
        meter.stage("segmenting")
        run = _Run(order, sight, clip, meter, leftover, stop or threading.Event())
        over = resume.begin(order.names, made_of, leftover)
        try:
            film, interrupted = run.run()
        except OutputError as exc:
            raise _kept(order.names, exc) from exc
        except (StreamerError, MemoryError):
            resume.discard(order.names)
            raise
        meter.finish()
        resumed = 0 if leftover is None else leftover.frames
        kept = order.names.under_way if interrupted and over else order.names
        if interrupted and film.output.frames < resumed:
            # What there was before is more than what was copied of it.
            resume.put_back(order.names, kept)
            return replace(_read(kept, order.cast), interrupted=True)
        if film.output.frames:
            resume.settle(order.names, kept, whole=not interrupted)
        else:
            resume.discard(order.names)
        notes = run.notes(film, interrupted)
        return VideoResult.of(film, clip, kept, began, notes, interrupted=interrupted, resumed_frames=resumed)


def finished(order: VideoOrder, settings: Settings) -> VideoResult | None:
    """What is there, where the order is to go on with a file that is finished; None: there is something to do.

    Raises:
        OutputError: what is there under the output's name is no video with a sidecar, was made of another clip or with
            other options, or does not say so.
        SourceUnusable: the clip cannot be read.
    """
    if not order.resume or not resume.is_finished(order.names):
        return None
    now = record.of(order, settings.vision.engine)
    try:
        done = replace(_read(order.names, order.cast), already=True)
        before = record.find(order.names)
    except SourceUnusable as exc:
        raise OutputError(
            f"{order.output} is there already and --resume cannot go on with it ({exc}); leave --resume out to make it "
            "anew, or choose another name"
        ) from exc
    if before is None:
        raise OutputError(
            f"{order.output} is there already and does not say what it was made of (an older version or another "
            f"command wrote it), so it may not be what is asked for; it was left as it is: {_ANEW}"
        )
    if differing := record.difference(before, now):
        raise OutputError(f"{order.output} is finished, but {differing}; it was left as it is: {_ANEW}")
    return done


def _read(names: Names, cast: Cast) -> VideoResult:
    """What is said of files that an earlier run made. Raises `SourceUnusable`."""
    assert names.sidecar is not None
    with Clip(names.video) as video:
        info = video.info
    frames, seen = 0, dict.fromkeys(cast.members, 0)
    with lines.Sidecar(names.sidecar) as sidecar:
        for said in sidecar:
            frames += 1
            for track in cast.seen(lines.result(said, masks=False)):
                if track.name is not None:
                    seen[track.name] += 1
    return VideoResult(
        output=names.video,
        sidecar=names.sidecar,
        frames=frames,
        seconds=round(info.seconds or 0.0, 3),
        size=(info.width, info.height),
        fps=round(info.fps, 3),
        seen=seen,
        elapsed_seconds=0.0,
        codec=info.codec,
        resumed_frames=frames,
    )


class _Run:
    """One pass over one file."""

    def __init__(
        self,
        order: VideoOrder,
        sight: Sight,
        clip: Clip,
        meter: Meter,
        leftover: Leftover | None,
        stop: threading.Event,
    ) -> None:
        self._order, self._sight, self._clip = order, sight, clip
        self._meter, self._leftover, self._stop = meter, leftover, stop
        self._record = record.of(order, sight.settings.vision.engine)
        self._part = bool(order.from_seconds) or order.to_seconds is not None
        self._pictures: dict[int, ClipFrame] = {}
        self._done = 0 if leftover is None else leftover.frames

    def run(self) -> tuple[Film, bool]:
        """The film, finished, and whether it was stopped before the end."""
        order, names, settings = self._order, self._order.names, self._sight.settings
        comment = record.comment(self._record)
        film = Film(names.part, names.part_sidecar, self._clip, order.cast, order.look, settings.video, comment)
        read = _with_end(self._clip.read(max(0, self._done - _WARM_UP_FRAMES)))
        return film, shoot(film, read, self._watched, self._stop)

    def notes(self, film: Film, interrupted: bool) -> list[str]:
        """What was odd about the input."""
        said = []
        info = self._clip.info
        if info.colours.is_hdr:
            said.append("the input is HDR: its colours are kept as they are, at 8 bits")
        if not interrupted and info.seconds is not None and film.seconds < info.seconds - _SHORT_SECONDS:
            said.append(
                f"the input is cut short or damaged: it says {info.seconds:.1f} s and ends after {film.seconds:.1f} s"
            )
        if self._order.look.style == "hide":
            said += [
                f"{name!r} was never recognised, so nobody is hidden under that name: look before you pass it on"
                for name, frames in film.seen.items()
                if not frames
            ]
        return said

    def _watched(self, items: Iterator[ClipFrame | Sound | None]) -> Iterator[Seen | Sound]:
        """Pictures with their results, and sound. Stopped, it leaves out the pictures of the last second: a name that
        comes later may be theirs, and a run that goes on copies what is there."""
        earlier = None if self._leftover is None else _Earlier(self._leftover, self._sight, self._order)
        first_id = 1 if earlier is None else earlier.next_track_id
        watcher = Watcher(self._sight, self._order.cast, self._order.every, first_id)
        info = self._clip.info
        hindsight = Hindsight(info.width, info.height, info.fps)
        try:
            for item in items:
                if item is None:
                    for seen in watcher.finish():
                        yield from self._seen(hindsight.step(*seen))
                    yield from self._seen(hindsight.finish())
                elif isinstance(item, Sound):
                    yield item
                elif item.index < self._done and earlier is not None:
                    if item.frame is not None:
                        watcher.warm_up(item.frame)
                    yield earlier.next(item)
                    self._meter.step()
                elif item.frame is not None:
                    self._pictures[item.index] = item
                    for seen in watcher.step(item.frame):
                        yield from self._seen(hindsight.step(*seen))
        finally:
            watcher.close()
            if earlier is not None:
                earlier.close()

    def _seen(self, found: Iterator[tuple[Frame, FrameResult]]) -> Iterator[Seen]:
        for frame, result in found:
            picture = self._pictures.pop(frame.index)
            self._meter.step()
            yield Seen(picture, frame, result, line_of(picture, result, self._part, self._record))


def _with_end(items: Iterator[ClipFrame | Sound]) -> Iterator[ClipFrame | Sound | None]:
    """`items`, then None: who is stopped before it knows that the file goes on."""
    yield from items
    yield None


class _Earlier:
    """The pictures and lines of an earlier run, in order."""

    def __init__(self, leftover: Leftover, sight: Sight, order: VideoOrder) -> None:
        made_by = codec.choose(order.output.suffix, order.look.transparent, sight.settings.video)
        self._packets = copied(leftover.video, made_by)
        self._leftover = leftover
        self._lines = leftover.sidecar.open("rb")
        self.next_track_id = 1 + max(self._ids(), default=0)

    def next(self, picture: ClipFrame) -> Seen:
        """The next picture as it was written."""
        text = next(self._lines).rstrip(b"\n")
        packet = next(self._packets, None)
        if packet is None:
            raise OutputError(f"{self._leftover.video} ends early; leave --resume out to begin again")
        result = lines.result(lines.parsed(self._leftover.sidecar, picture.index + 1, text), masks=False)
        return Seen(picture, None, result, text, packet)

    def close(self) -> None:
        """Free the files."""
        self._lines.close()
        self._packets.close()

    def _ids(self) -> Iterator[int]:
        with lines.Sidecar(self._leftover.sidecar) as sidecar:
            for said in sidecar:
                yield from (track["id"] for track in said["tracks"])


def _made_of(order: VideoOrder, clip: Clip, sight: Sight) -> dict[str, Any]:
    """What must be the same for a later run to go on with this one."""
    status = order.clip.stat()
    return {
        "clip": str(order.clip.absolute()),
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        **record.options(order, sight.settings.vision.engine),
        "encoder": codec.choose(order.output.suffix, order.look.transparent, sight.settings.video),
    }


def _kept(names: Names, error: OutputError) -> OutputError:
    """Say where the frames are that were written before the disk was full."""
    if not names.part.exists():
        return error
    return OutputError(f"{error}; what was written is kept in {names.part}, and --resume goes on with it")


def check_clip(path: Path) -> None:
    """Raises `SourceUnusable` where the file is no video that can be read; quick, without a model."""
    with Clip(path) as clip:
        if clip.info.frames == 0:
            raise SourceUnusable(f"{path}: not one picture in it can be decoded; re-encode it")
