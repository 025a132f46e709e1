"""The time mark that latency is measured with."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.ingest import mark
from tests.media import h264_round_trip, texture


@pytest.mark.parametrize("ms", [0, 1, 0xABCDEF, (1 << 24) - 1, (1 << 24) + 5])
def test_a_mark_is_read_back(ms: int) -> None:
    picture = texture(640, 360)
    mark.stamp(picture, ms)
    assert mark.read(picture) == ms & 0xFFFFFF


def test_a_mark_survives_a_poor_encode() -> None:
    picture = texture(640, 360)
    mark.stamp(picture, 1234567)
    assert mark.read(h264_round_trip(picture, bit_rate=300_000)) == 1234567


@pytest.mark.parametrize("level", [0, 16, 128, 235, 255])
def test_a_picture_without_a_mark_gives_none(level: int) -> None:
    assert mark.read(np.full((540, 640), level, np.uint8)) is None
    assert mark.read(np.full((24, 16), level, np.uint8)) is None


def test_a_damaged_mark_gives_none() -> None:
    picture = texture(640, 360)
    mark.stamp(picture, 1234567)
    picture[:16, 200:216] = 251 - picture[:16, 200:216]
    assert mark.read(picture) is None


def test_a_picture_too_small_to_stamp_is_refused() -> None:
    with pytest.raises(ValueError, match="512x16"):
        mark.stamp(np.zeros((540, 500), np.uint8))


def test_age_is_right_across_the_wrap_of_the_clock() -> None:
    assert mark.signed_ms(5 - ((1 << 24) - 10)) == 15
    assert mark.signed_ms(-20) == -20
    assert 0 <= mark.age_ms(mark.clock_ms()) < 10_000
