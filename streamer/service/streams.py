"""All live streams of a service: made, found, ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from streamer.errors import LimitReached, PromptUnsupported, StreamUnknown
from streamer.service.settings import Settings
from streamer.service.sources import make_source
from streamer.service.stream import Stream
from streamer.tracks import STYLES, Style, Target
from streamer.vision.gallery import Gallery
from streamer.vision.supervisor import Supervisor

log = logging.getLogger(__name__)


class Unset:
    """What a client did not mention in a change; None means "nobody in particular"."""


UNSET = Unset()


class Streams:
    """The registry. Bound: `service.max_streams`. Each stream is a task of the group that the service runs.

    `before_demo` is awaited before a demo stream is made: it enrols the people in it, so that they have names.
    """

    def __init__(
        self,
        settings: Settings,
        vision: Supervisor,
        gallery: Gallery,
        recordings: Path,
        group: asyncio.TaskGroup,
        before_demo: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._vision = vision
        self._gallery = gallery
        self._recordings = recordings
        self._group = group
        self._before_demo = before_demo
        self._streams: dict[str, Stream] = {}
        self._starting = 0
        self._requests = itertools.count(1)

    def all(self) -> list[Stream]:
        """Every stream, oldest first."""
        return list(self._streams.values())

    def get(self, stream_id: str) -> Stream:
        """Raises `StreamUnknown`."""
        try:
            return self._streams[stream_id]
        except KeyError:
            raise StreamUnknown(f"there is no stream {stream_id!r}; GET /api/streams lists them") from None

    async def create(
        self,
        source: Mapping[str, Any],
        member: str | None = None,
        object: str | None = None,
        style: str | None = None,
    ) -> Stream:
        """Start a stream.

        Raises:
            SourceUnusable, MemberUnknown, PromptUnsupported: what was asked for cannot be.
            LimitReached: `service.max_streams` run already.
        """
        limit = self._settings.service.max_streams
        if len(self._streams) + self._starting >= limit:
            raise LimitReached(f"{limit} streams run already; end one, or raise service.max_streams")
        self._starting += 1
        try:
            checked = check_style(style or "annotated")
            if source.get("kind") == "demo":
                await self._before_demo()
            target = Target(await self._member_name(member), await self._phrase(object), everybody=checked == "only")
            opened = await asyncio.to_thread(make_source, source, self._settings)
            stream = Stream(
                secrets.token_hex(4),
                opened,
                target,
                checked,
                settings=self._settings,
                vision=self._vision,
                recordings=self._recordings,
            )
        finally:
            self._starting -= 1
        self._streams[stream.id] = stream
        self._group.create_task(self._run(stream), name=f"stream-{stream.id}")
        log.info("stream %s: %s", stream.id, opened.describe())
        return stream

    async def update(
        self,
        stream: Stream,
        *,
        member: str | Unset | None = UNSET,
        object: str | Unset | None = UNSET,
        style: str | Unset = UNSET,
    ) -> None:
        """Change what a stream shows while it runs; what is UNSET stays. Raises as `create` does.

        Of two changes of the same thing the one that was asked for later holds, however long the other has to wait for
        vision.
        """
        request = next(self._requests)
        change: dict[str, Any] = {}
        if not isinstance(style, Unset):
            change["style"] = check_style(style)
        if not isinstance(member, Unset):
            change["member"] = await self._member_name(member)
        if not isinstance(object, Unset):
            change["object"] = await self._phrase(object)
        stream.change(change, request)

    async def remove(self, stream_id: str) -> None:
        """End a stream and everything of it. Raises `StreamUnknown`."""
        stream = self.get(stream_id)
        del self._streams[stream_id]
        await stream.aclose()

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Only these are members now: a stream whose source stands still says no other name any more."""
        for stream in self.all():
            stream.forget_all_but(names)

    async def aclose(self) -> None:
        """End every stream. Twice is fine."""
        for stream in self.all():
            self._streams.pop(stream.id, None)
            await stream.aclose()

    async def _run(self, stream: Stream) -> None:
        try:
            await stream.run()
        except* Exception:
            # One broken stream must not take its siblings along, which a task group would do.
            log.exception("stream %s ended by an error", stream.id)
        finally:
            self._streams.pop(stream.id, None)

    async def _phrase(self, wanted: str | None) -> str | None:
        phrase = (wanted or "").strip() or None
        if phrase is not None:
            if self._settings.vision.engine == "none":
                raise PromptUnsupported(f"engine none segments nothing, so no {phrase!r}; use engine lite or sam3")
            await self._vision.check_phrase(phrase)
        return phrase

    async def _member_name(self, wanted: str | None) -> str | None:
        return None if wanted is None else (await asyncio.to_thread(self._gallery.member, wanted)).name


def check_style(style: str) -> Style:
    """`style` as a `Style`. Raises `PromptUnsupported` for a word that is none."""
    for known in STYLES:
        if style == known:
            return known
    raise PromptUnsupported(f"there is no style {style!r}; use one of {', '.join(STYLES)}")
