"""Watching sources from tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from streamer.channels import LatestSlot
from streamer.frames import Frame
from streamer.ingest.files import FileSource
from streamer.ingest.source import Phase, Source, SourceState
from tests import media

PATIENCE_SECONDS = 20.0
"""Far beyond what anything takes: a bound on a test that fails, not a measurement."""


@contextmanager
def playing(source: Source) -> Iterator[LatestSlot[Frame]]:
    """`source` started, and closed afterwards."""
    slot: LatestSlot[Frame] = LatestSlot()
    source.start(slot)
    try:
        yield slot
    finally:
        source.close()


def take(slot: LatestSlot[Frame], count: int) -> list[Frame]:
    """The next `count` frames."""
    return [slot.get(PATIENCE_SECONDS) for _ in range(count)]


def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def reach(source: Source, *phases: Phase) -> SourceState:
    """Wait until `source` is in one of `phases`; its state."""
    until(lambda: source.state.phase in phases)
    return source.state


def rises(frames: list[Frame]) -> bool:
    """Indices and times rise, times by less than a second a frame that was made."""
    return all(
        b.index > a.index and 0 < b.pts_seconds - a.pts_seconds < b.index - a.index and b.captured_at >= a.captured_at
        for a, b in pairwise(frames)
    )


class Keeper(LatestSlot[Frame]):
    """A slot that also keeps every frame, so that a test depends on no timing."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def put(self, item: Frame) -> None:
        self.frames.append(item)
        super().put(item)


def play_once(path: Path) -> list[Frame]:
    """All frames of one pass through a file."""
    source, keeper = FileSource(path, loop=False), Keeper()
    source.start(keeper)
    state = reach(source, "ended", "failed")
    source.close()
    assert state.phase == "ended", state.reason
    return keeper.frames


def times(frames: list[Frame]) -> list[float]:
    """Presentation times in seconds."""
    return [frame.pts_seconds for frame in frames]


def numbers(frames: list[Frame]) -> list[int]:
    """Which pictures of `media.video` these are."""
    return [media.picture_number(frame.i420) for frame in frames]
