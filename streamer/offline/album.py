"""Many photos: read ahead on a thread of its own, and through the image encoder in batches where the engine can."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from streamer.errors import PhotoRefused
from streamer.offline import photo
from streamer.offline.given import picture_of
from streamer.offline.photo import PhotoOrder, PhotoResult, Still
from streamer.offline.pipeline import Ahead
from streamer.offline.sight import BATCH, Sight
from streamer.vision.engines.base import LookAhead

if TYPE_CHECKING:
    from streamer.offline.given import ImageLike

_BATCH_PIXELS = 50_000_000
"""Of a batch's photos together, from which it takes no more of them: four of a phone's fit, of 40 megapixels two."""


def segmented(
    given: Iterable[ImageLike], order: PhotoOrder, sight: Sight
) -> Generator[tuple[PhotoResult | PhotoRefused, float]]:
    """What `photo.segment` finds in each, in the order given, and the seconds of work that it took.

    A photo that cannot be read, or is too small, gives the error instead. At most two batches and one more photo are
    held: the one that is worked on, and what is read meanwhile.

    Raises:
        PromptUnsupported: the engine cannot answer the object prompt.
        ConfigError: the drawn box lies outside a photo.
    """
    engine = sight.models.engine()
    ahead = engine if isinstance(engine, LookAhead) else None
    most = 1 if ahead is None else BATCH
    with closing(engine), Ahead(_read(given), most, "photos") as read:
        for batch in _batches(iter(read), most):
            stills = [one for one, _ in batch if isinstance(one, Still)]
            began = time.monotonic()
            if ahead is not None and len(stills) > 1:
                ahead.prepare([replace(still.picture(), index=place) for place, still in enumerate(stills)])
            share = (time.monotonic() - began) / max(len(stills), 1)
            place = 0
            for one, seconds in batch:
                if isinstance(one, PhotoRefused):
                    yield one, seconds
                    continue
                found = photo.seen_by(engine, one, order, sight, place)
                place += 1
                found = replace(found, seconds=found.seconds + seconds + share)
                yield found, found.seconds


def _read(given: Iterable[ImageLike]) -> Iterator[tuple[Still | PhotoRefused, float]]:
    """Each photo, or why it is none, and how long reading it took."""
    for one in given:
        began = time.monotonic()
        read: Still | PhotoRefused
        try:
            read = Still.of(*picture_of(one))
        except PhotoRefused as exc:
            read = exc
        yield read, time.monotonic() - began


def _batches(
    read: Iterator[tuple[Still | PhotoRefused, float]], most: int
) -> Iterator[list[tuple[Still | PhotoRefused, float]]]:
    """At most `most` photos each; those that cannot be read take no place."""
    batch: list[tuple[Still | PhotoRefused, float]] = []
    count = pixels = 0
    for one in read:
        batch.append(one)
        if isinstance(one[0], Still):
            count += 1
            pixels += one[0].frame.width * one[0].frame.height
        if count >= most or pixels >= _BATCH_PIXELS:
            yield batch
            batch, count, pixels = [], 0, 0
    if batch:
        yield batch
