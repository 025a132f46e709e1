"""A live stream for the Python API: the newest frame each time, seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from streamer.channels import LatestSlot
from streamer.errors import SourceUnavailable, SourceUnusable
from streamer.offline.results import StreamResult

if TYPE_CHECKING:
    from streamer.frames import Frame
    from streamer.ingest.source import Source
    from streamer.offline.cast import Cast
    from streamer.offline.sight import Sight

STALL_SECONDS = 15.0
"""A source that gives nothing for so long has ended."""


def wanted(url: str) -> dict[str, Any]:
    """The description of a source that `make_source` takes, of `rtsp://…`, `demo` or the path of a file."""
    if url == "demo":
        return {"kind": "demo"}
    if "://" in url:
        return {"kind": "rtsp", "url": url}
    return {"kind": "file", "path": url, "loop": False}


def watch(source: Source, sight: Sight, cast: Cast) -> Iterator[StreamResult]:
    """Start `source`, give what is seen on its newest frames, and close it in the end, whoever ends it.

    Raises:
        SourceUnusable: it failed, and will not give video as it is.
        SourceUnavailable: nothing came for too long.
    """
    slot: LatestSlot[Frame] = LatestSlot()
    processor = sight.processor(cast)
    try:
        source.start(slot)
        waited = 0.0
        while True:
            try:
                frame = slot.get(timeout=0.25)
            except TimeoutError:
                waited += 0.25
                state = source.state
                if state.phase == "ended":
                    return
                if state.phase == "failed":
                    raise SourceUnusable(state.reason or "the source failed") from None
                if waited >= STALL_SECONDS:
                    raise SourceUnavailable(state.reason or "nothing came for 15 s; check the source") from None
                continue
            waited = 0.0
            yield StreamResult(frame, processor.step(frame), slot.dropped, cast)
    finally:
        processor.close()
        source.close()
