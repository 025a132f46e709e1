"""The demo source: a film made at run time from photos of installed packages."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from streamer.errors import SourceUnusable
from streamer.frames import planes
from streamer.ingest.demo import SHOTS, DemoSource, Film
from streamer.ingest.demo_cast import DEMO_CAST, Photo, demo_members
from tests.sources import playing, rises, take


@pytest.fixture(scope="module")
def film() -> Film:
    return Film((160, 90))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of |a - b| over the luma plane, in levels."""
    return float(np.abs(planes(a)[0].astype(int) - planes(b)[0]).mean())


def test_the_film_moves_smoothly_and_cuts_once(film: Film) -> None:
    pictures = [film.picture(n / 25) for n in range(round(film.seconds * 25))]
    steps = [difference(a, b) for a, b in pairwise(pictures)]
    cuts = [n for n, step in enumerate(steps) if step > 40]
    assert len(cuts) == 1
    assert (cuts[0] + 1) / 25 == pytest.approx(SHOTS[0].seconds)
    # It moves all the time, but for the rests at the views.
    assert sum(step > 0.1 for step in steps) > len(steps) * 0.8
    assert max(step for n, step in enumerate(steps) if n not in cuts) < 25


def test_the_film_repeats(film: Film) -> None:
    assert np.array_equal(film.picture(2.5), film.picture(2.5 + 3 * film.seconds))
    assert 16 <= film.seconds <= 20


def test_the_camera_moves_by_parts_of_a_pixel(film: Film) -> None:
    pictures = [film.picture(1.5 + n * 0.004) for n in range(5)]
    assert all(difference(a, b) > 0 for a, b in pairwise(pictures))


def test_the_camera_stays_inside_the_photos() -> None:
    for shot in SHOTS:
        height, width = shot.photo.read().shape[:2]
        for step in np.arange(0, shot.seconds, 0.1):
            view = shot.view(float(step))
            half_width, half_height = view.width / 2, view.width * 9 / 32
            assert -shot.margin <= view.centre[0] - half_width
            assert view.centre[0] + half_width <= width + shot.margin
            assert view.centre[1] - half_height >= 0
            assert view.centre[1] + half_height <= height


@pytest.mark.parametrize(
    ("max_size", "size"), [((1920, 1080), (960, 540)), ((640, 360), (640, 360)), ((640, 100), (176, 100))]
)
def test_the_source_plays_in_a_size_that_fits(max_size: tuple[int, int], size: tuple[int, int]) -> None:
    source = DemoSource(max_size=max_size)
    with playing(source) as slot:
        frames = take(slot, 3)
        assert source.state.phase == "live"
        assert source.fps == pytest.approx(25)
    assert source.state.phase == "ended"
    assert {(frame.width, frame.height) for frame in frames} == {size}
    assert rises(frames)
    assert source.describe() == {"kind": "demo"}


def test_each_member_has_a_photo() -> None:
    members = demo_members()
    assert set(members) == set(DEMO_CAST)
    assert len(members) >= 4
    for photos in members.values():
        for photo in photos:
            picture = Image.open(io.BytesIO(photo))
            assert picture.format == "JPEG"
            assert min(picture.size) >= 200


@pytest.mark.parametrize("photo", [Photo("no_such_package", "a.png"), Photo("skimage", "data/no_such_photo.png")])
def test_a_missing_photo_is_named_with_its_package(photo: Photo) -> None:
    with pytest.raises(SourceUnusable, match=rf"{photo.file}.*pip install.*{photo.package}"):
        photo.read()
