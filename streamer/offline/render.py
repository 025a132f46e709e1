"""Another look of a video that was seen before: from the clip and its sidecar, without a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamer.errors import MemberUnknown, SourceUnusable
from streamer.offline import destination, lines, record, resume
from streamer.offline.cast import Cast
from streamer.offline.clip import Clip, Sound
from streamer.offline.clock import PTS_RATE
from streamer.offline.film import Film, Look, Seen, shoot
from streamer.offline.hindsight import Hindsight
from streamer.offline.pairing import Pairing
from streamer.offline.progress import Meter, OnProgress
from streamer.offline.resume import Names
from streamer.offline.video import VideoResult
from streamer.service.settings import VideoSettings
from streamer.tracks import PRIVATE_STYLES, FrameResult
from streamer.vision import member_name

_BEYOND_SECONDS = 2.0
"""What is read of a clip after the last frame wanted, for the sound that belongs to it."""
_APART = "they do not belong together; give the sidecar that was written of this clip"


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """What is to be made of a clip and its sidecar."""

    clip: Path
    sidecar: Path
    output: Path
    look: Look = field(default_factory=Look)
    members: tuple[str, ...] = ()
    """Who is shown, or hidden; empty: everybody whom the sidecar names."""

    def check(self) -> None:
        """Raises `OutputError` where the output cannot be written."""
        destination.check_video(self.output, self.look.transparent, [self.clip, self.sidecar])


def render(
    order: RenderOrder, video: VideoSettings, on_progress: OnProgress | None = None, stop: threading.Event | None = None
) -> VideoResult:
    """Make the output. `stop`, when set, ends the work; nothing is left then.

    With `hide` and `only` a picture of which the sidecar says nothing is frosted as a whole, and a line that belongs to
    no picture is an error: it is then of another clip, whatever else fits. So is a missing line where nothing says
    which picture the first one belongs to. In the other styles a note says so.

    Raises:
        SourceUnusable: the clip or the sidecar cannot be read, or they do not belong together.
        MemberUnknown: with `hide` and `only`, the sidecar never names one of the members; with `hide`, nobody at all.
        OutputError: the output cannot be written.
    """
    order.check()
    began = time.monotonic()
    meter = Meter(on_progress)
    meter.stage("reading the sidecar")
    story = _Story.read(order.sidecar)
    cast = _cast(order, story)
    names = Names(order.output, None)
    to_seconds = None if story.last_seconds is None else story.last_seconds + _BEYOND_SECONDS
    with _opened(order, story, to_seconds) as clip:
        _check_size(order, story, clip)
        meter.total = story.lines
        meter.stage("drawing")
        try:
            with lines.Sidecar(order.sidecar) as sidecar:
                film = Film(names.part, None, clip, cast, order.look, video)
                pairing = Pairing(iter(sidecar), of_part=story.last_seconds is not None)
                private = order.look.style in PRIVATE_STYLES
                told = _matched(clip, pairing, story, private)
                told = _named_from_the_start(told, clip) if private else told
                interrupted = shoot(film, told, lambda items: _counted(items, meter), stop or threading.Event())
        except Exception:
            resume.discard(names)
            raise
        if interrupted:
            resume.discard(names)
        else:
            resume.settle(names, names, whole=True)
        meter.finish()
        notes = [*_warnings(order, story, cast), *([] if interrupted else _doubts(pairing, story))]
        return VideoResult.of(film, clip, names, began, notes, interrupted=interrupted)


@dataclass(frozen=True, slots=True)
class _Story:
    """What a sidecar tells, without its masks."""

    path: Path
    lines: int
    members: tuple[str, ...]
    """Whom it names, most often seen first."""
    sizes: frozenset[tuple[int, int]]
    """Width and height of the pictures that it tells of: one, unless it is of no clip at all."""
    prompt: str | None
    """The object that was asked for."""
    strangers: bool
    """It tells of people who are no track, or would if there were any."""
    followed: str | None
    """The one member whose masks alone are new on every picture; None: everybody's are, or nothing says so."""
    from_seconds: float | None
    """Of a part of a file: when its first frame is shown, on the clip's clock."""
    last_seconds: float | None
    """When its last one is."""

    def never(self, members: Sequence[str]) -> str:
        """Says which of these it never names; empty: it names them all."""
        missing = [name for name in members if name not in self.members]
        named = ", ".join(map(repr, self.members[:8])) + (", …" if len(self.members) > 8 else "")
        return (
            f"{self.path} never names {', '.join(map(repr, missing))}; it names {named or 'nobody'}" if missing else ""
        )

    @classmethod
    def read(cls, path: Path) -> _Story:
        count, seen, prompt = 0, dict[str, int](), None
        sizes = set[tuple[int, int]]()
        starts: float | None = None
        last: float | None = None
        strangers, followed = False, None
        with lines.Sidecar(path) as sidecar:
            for said in sidecar:
                count += 1
                strangers |= lines.PEOPLE in said or record.seeks_everybody(said.get(lines.MADE_OF))
                followed = followed or record.followed(said.get(lines.MADE_OF))
                sizes.add((said["size"][0], said["size"][1]))
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
        return cls(path, count, members, frozenset(sizes), prompt, strangers, followed, starts or None, last)


def _opened(order: RenderOrder, story: _Story, to_seconds: float | None) -> Clip:
    try:
        return Clip(order.clip, story.from_seconds, to_seconds)
    except SourceUnusable as exc:
        Clip(order.clip).close()  # says what is wrong with the clip itself, if something is
        raise _not_one(story, order.clip) from exc


def _check_size(order: RenderOrder, story: _Story, clip: Clip) -> None:
    """Lines are of the very size of the pictures: a video's as shown, a recording's as encoded. No other clip's are."""
    shown = clip.info.width, clip.info.height
    for width, height in story.sizes - {shown}:
        raise SourceUnusable(
            f"{story.path} tells of pictures of {width}x{height}, those of {order.clip} are {shown[0]}x{shown[1]}: "
            f"{_APART}"
        )


def _cast(order: RenderOrder, story: _Story) -> Cast:
    """Who is shown, spelt as in the sidecar.

    Raises:
        MemberUnknown: a style that promises to hide somebody cannot: the sidecar never names whom it was asked for.
    """
    style = order.look.style
    spelt = {member_name.key(name): name for name in story.members}
    members = tuple(dict.fromkeys(spelt.get(member_name.key(name), name) for name in order.members)) or story.members
    if style in PRIVATE_STYLES and (never := story.never(members)):
        # Never seen, or not known when it was written, or misspelt: who is not named is not hidden, wherever they are.
        raise MemberUnknown(f"{never}, so {style} cannot keep its promise; give a name that it names, or leave it out")
    if style == "hide" and not members:
        raise MemberUnknown(
            f"{story.path} names nobody, so hide would hide nobody; search the clip again: streamer video"
        )
    # Where nobody was ever seen, every style still says so, frame by frame.
    return Cast.of(members or ("nobody",), story.prompt, style)


def _counted(items: Iterator[Seen | Sound], meter: Meter) -> Iterator[Seen | Sound]:
    for item in items:
        if isinstance(item, Seen):
            meter.step()
        yield item


def _matched(clip: Clip, pairing: Pairing, story: _Story, private: bool) -> Iterator[Seen | Sound]:
    """Pictures with the results that belong to them. A picture without a line has one that says nothing, or is left out
    where the lines are of a part of the file.

    Raises:
        SourceUnusable: at the end, if no line belonged to a picture, or, where it is `private`, if one did not.
    """
    end: float | None = None
    for item in clip.read():
        if isinstance(item, Sound):
            if end is None or item.seconds < end:
                yield item
            continue
        if pairing.over and story.last_seconds is not None:
            end = end or item.pts / PTS_RATE
            continue
        assert item.frame is not None, "every picture was converted"
        line = pairing.step(item)
        yield Seen(item, item.frame, FrameResult.nothing(item.frame) if line is None else lines.result(line), None)
    if not pairing.matched:
        raise _not_one(story, clip.path)
    if private and pairing.matched < story.lines:
        raise SourceUnusable(
            f"{story.path} has {story.lines} lines, and only {pairing.matched} of them belong to the "
            f"{pairing.pictures} pictures of {clip.path}: {_APART}"
        )
    if private and not pairing.is_sure:
        raise SourceUnusable(
            f"{story.path} has {story.lines} lines for the {pairing.pictures} pictures of {clip.path}, and nothing "
            f"says which of them the first line is of: {_APART}"
        )


def _named_from_the_start(items: Iterator[Seen | Sound], clip: Clip) -> Iterator[Seen | Sound]:
    """A recording tells a name when the stream did, some frames late. Here it holds from where the person came in."""
    hindsight = Hindsight(clip.info.width, clip.info.height, clip.info.fps)
    waiting: dict[int, Seen] = {}
    for item in items:
        if isinstance(item, Sound):
            yield item
            continue
        assert item.frame is not None, "every picture was converted"
        waiting[item.frame.index] = item
        for frame, result in hindsight.step(item.frame, item.result):
            yield replace(waiting.pop(frame.index), result=result)
    for frame, result in hindsight.finish():
        yield replace(waiting.pop(frame.index), result=result)


def _warnings(order: RenderOrder, story: _Story, cast: Cast) -> list[str]:
    """What a user should know of what is shown."""
    said = []
    if never := story.never(order.members and cast.members):
        said.append(never)
    if order.look.style == "only" and not story.strangers:
        said.append(
            "the sidecar was not written for style only: people whose face was never found are not in it, and are "
            "shown; who moves may show at the edge; search the clip again with --style only to hide them all"
        )
    others = [name for name in cast.members if name != story.followed]
    if order.look.style == "hide" and story.followed and others:
        said.append(
            f"the sidecar was made for {story.followed!r}: those of {', '.join(map(repr, others))} come in turn, "
            "and who moves may show at the edge; search the clip again with --style hide to hide them wholly"
        )
    return said


def _doubts(pairing: Pairing, story: _Story) -> list[str]:
    """What a user should know of a sidecar that does not fit wholly."""
    if pairing.matched < story.lines:
        found = (
            f"only {pairing.matched} of the sidecar's {story.lines} lines belong to one of {pairing.pictures} pictures"
        )
    elif pairing.pictures != story.lines:
        found = f"{pairing.pictures} pictures, and {story.lines} lines in the sidecar"
    else:
        return []
    return [f"{found}: it may be of another file"]


def _not_one(story: _Story, clip: Path) -> SourceUnusable:
    said = f"{story.path}: not one line of it belongs to a picture of {clip}: {_APART}"
    if story.last_seconds is not None:
        said += "; it tells of a part, with the times of the whole clip that the part was made of: give that clip"
    return SourceUnusable(said)
