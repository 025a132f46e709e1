"""Names from evidence, on embeddings whose cosines are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.vision.known import Known
from streamer.vision.levels import EMBEDDED_LEVELS
from streamer.vision.naming import UNSEEN_SECONDS, Namer
from streamer.vision.quality import FaceQuality

DIMENSION = 64
MODEL = "mobilefacenet_192-test"
CLEAR = FaceQuality(size=120, sharpness=300, yaw=0.0, pitch=0.0)
BLURRED = FaceQuality(size=37, sharpness=12, yaw=0.3, pitch=0.0)
PROFILE = FaceQuality(size=120, sharpness=300, yaw=0.9, pitch=0.0)


def axis(number: int) -> np.ndarray:
    """A direction of its own."""
    vector = np.zeros(DIMENSION, np.float32)
    vector[number] = 1
    return vector


def probe(*cosines: float, noise: int = DIMENSION - 1) -> np.ndarray:
    """A unit vector with these cosines to the members 0, 1, … ; the rest points along the axis `noise`."""
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(cosines)] = cosines
    rest = 1 - float(vector @ vector)
    assert rest >= -1e-6
    vector[noise] = np.sqrt(max(rest, 0.0))
    return vector


def gallery(*names: str) -> Known:
    """Each member has one photo, at right angles to all others."""
    photos = np.stack([axis(number) for number in range(len(names))])
    return Known(MODEL, names, np.arange(len(names), dtype=np.int64), photos)


def seen(namer: Namer, track: int, *looks: np.ndarray, quality: FaceQuality = CLEAR, start: float = 0.0) -> float:
    """Show `looks` of a track a tenth of a second apart, deciding after each; the time of the last."""
    now = start
    for number, look in enumerate(looks):
        now = start + 0.1 * number
        namer.observe(track, look, quality, now)
        namer.decide([track], now)
    return now


def name_of(namer: Namer, track: int, now: float = 0.0) -> str | None:
    return namer.decide([track], now)[track].name


def test_an_excellent_look_names_at_once() -> None:
    namer = Namer(gallery("ann", "bob"))
    seen(namer, 1, probe(0.75, 0.1))
    said = namer.decide([1], 0.0)[1]
    assert said.name == "ann"
    assert said.similarity == pytest.approx(0.75, abs=1e-3)


def test_a_middling_look_needs_company() -> None:
    namer = Namer(gallery("ann", "bob"))
    look = probe(0.56, 0.1)
    seen(namer, 1, look)
    assert name_of(namer, 1) is None
    now = seen(namer, 1, look, look, look, start=0.1)
    assert name_of(namer, 1, now) == "ann"


def test_look_alikes_and_strangers_stay_unknown_however_long_they_are_seen() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.47, 0.1)] * 50)
    assert name_of(namer, 1, now) is None
    now = seen(namer, 2, *[probe(0.05, 0.1)] * 50)
    assert name_of(namer, 2, now) is None


def test_no_name_without_a_lead_over_the_runner_up() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.66, 0.63)] * 30)
    assert name_of(namer, 1, now) is None


def test_blurred_faces_must_be_nearer() -> None:
    looks = [probe(0.55, 0.1)] * 20
    clear, blurred = Namer(gallery("ann", "bob")), Namer(gallery("ann", "bob"))
    now = seen(clear, 1, *looks)
    seen(blurred, 1, *looks, quality=BLURRED)
    assert name_of(clear, 1, now) == "ann"
    assert name_of(blurred, 1, now) is None


def test_one_name_goes_to_the_better_of_two_tracks() -> None:
    namer = Namer(gallery("ann", "bob"))
    for number in range(6):
        namer.observe(1, probe(0.68, 0.1), CLEAR, 0.1 * number)
        namer.observe(2, probe(0.85, 0.1), CLEAR, 0.1 * number)
    said = namer.decide([1, 2], 0.5)
    assert (said[1].name, said[2].name) == (None, "ann")


def test_two_members_at_once() -> None:
    namer = Namer(gallery("ann", "bob"))
    for number in range(3):
        namer.observe(1, probe(0.7, 0.1), CLEAR, 0.1 * number)
        namer.observe(2, probe(0.1, 0.7), CLEAR, 0.1 * number)
    said = namer.decide([1, 2], 0.2)
    assert (said[1].name, said[2].name) == ("ann", "bob")


def test_a_turned_head_does_not_cost_the_name() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    now = seen(namer, 1, *[probe(0.1, 0.05)] * 3, quality=PROFILE, start=now + 0.1)
    assert name_of(namer, 1, now) == "ann"
    assert name_of(namer, 1, now + UNSEEN_SECONDS - 0.5) == "ann"


def test_a_name_ends_when_no_face_is_seen_for_long() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    assert name_of(namer, 1, now + UNSEEN_SECONDS + 0.1) is None


def test_a_clear_other_face_ends_the_name_at_once() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 10)
    other = probe(0.02, 0.0, noise=5)
    assert namer.is_someone_else(1, other, CLEAR)
    assert not namer.is_someone_else(1, probe(0.6, 0.1), CLEAR)
    assert not namer.is_someone_else(1, other, PROFILE)
    now = seen(namer, 1, other, start=now + 0.1)
    assert name_of(namer, 1, now) is None


def test_a_track_that_becomes_another_member_changes_name() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 10)
    now = seen(namer, 1, *[probe(0.05, 0.75)] * 2, start=now + 0.1)
    assert name_of(namer, 1, now) == "bob"


def test_doubt_hides_the_name_until_a_look_agrees() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    namer.doubt(1)
    assert name_of(namer, 1, now) is None
    assert namer.undecided(1)
    now = seen(namer, 1, probe(0.7, 0.1), start=now + 0.1)
    assert name_of(namer, 1, now) == "ann"


def test_nothing_crosses_a_cut() -> None:
    namer = Namer(gallery("ann", "bob"))
    seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    namer.reset()
    assert namer.decide([1], 1.0)[1].similarity is None
    assert namer.looks(1) == 0


def test_a_removed_member_is_unknown_at_once_and_a_new_one_known() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    namer.set_known(Known(MODEL, ("bob",), np.zeros(1, np.int64), axis(1)[None]))
    assert name_of(namer, 1, now) is None
    namer.set_known(gallery("ann", "bob"))
    assert name_of(namer, 1, now) == "ann"


def test_embeddings_of_another_model_are_not_compared() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.75, 0.1)] * 5)
    other = Known("w600k_r50-test", ("ann",), np.zeros(1, np.int64), np.eye(1, 512, dtype=np.float32))
    namer.set_known(other)
    assert name_of(namer, 1, now) is None


def test_an_empty_gallery_names_nobody() -> None:
    namer = Namer(Known.nobody(MODEL))
    now = seen(namer, 1, probe(0.9), probe(0.9))
    assert namer.decide([1], now)[1] == namer.decide([1], now)[1]
    assert name_of(namer, 1, now) is None
    assert not namer.undecided(1)


def test_a_group_that_looks_alike_raises_its_levels() -> None:
    """Two members at 0.7 to each other: a stranger of their kind at 0.65 is neither."""
    alike = np.stack([axis(0), probe(0.7, noise=1)])
    namer = Namer(Known(MODEL, ("ann", "bea"), np.arange(2, dtype=np.int64), alike))
    stranger = probe(0.66, noise=9)
    now = seen(namer, 1, *[stranger] * 20)
    assert name_of(namer, 1, now) is None
    assert EMBEDDED_LEVELS.level + EMBEDDED_LEVELS.level_extra < 0.66, "it would pass in a group of strangers"
    herself = 0.9 * axis(0) + np.sqrt(1 - 0.81) * axis(9)
    now = seen(namer, 2, *[herself.astype(np.float32)] * 5)
    assert name_of(namer, 2, now) == "ann"


def test_a_photo_counts_as_it_is() -> None:
    """One look is all there is; still, a look-alike's is not enough."""
    namer = Namer(gallery("ann", "bob"), still=True)
    seen(namer, 1, probe(0.56, 0.1))
    assert name_of(namer, 1) == "ann"
    namer.reset()
    seen(namer, 1, probe(0.49, 0.1))
    assert name_of(namer, 1) is None
