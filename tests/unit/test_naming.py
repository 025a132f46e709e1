"""Names from evidence, on embeddings whose cosines are chosen."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from streamer.vision.known import Known
from streamer.vision.levels import EMBEDDED_LEVELS
from streamer.vision.naming import UNSEEN_SECONDS, Namer
from streamer.vision.quality import FaceQuality
from streamer.vision.templates import COMFORTABLE_MEMBERS, GALLERY_EXTRA, GROUP_CEILING, GROUP_GAP, Templates

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
    assert namer.was(1) is None
    for later in (0.1, 0.2, 0.3, 2.0):
        assert name_of(namer, 1, now + UNSEEN_SECONDS + later) is None, "old evidence does not bring it back"
        assert namer.was(1) == "ann"
    namer.set_known(Known(MODEL, ("bob",), np.zeros(1, np.int64), axis(1)[None]))
    assert namer.was(1) is None, "whose name may not be said any more"
    namer.set_known(gallery("ann", "bob"))
    seen(namer, 1, probe(0.75, 0.1), start=now + UNSEEN_SECONDS + 3)
    assert (name_of(namer, 1, now + UNSEEN_SECONDS + 3), namer.was(1)) == ("ann", None)


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


def rejecting(known: Known, owner: int, *faces: np.ndarray) -> Known:
    """`known`, and of `faces` somebody said that they are not member `owner`."""
    owners = np.full(len(faces), owner, np.int64)
    return replace(known, rejected_owners=owners, rejected=np.stack(faces).astype(np.float32))


def test_a_rejected_name_is_gone_at_once_and_does_not_come_back() -> None:
    known = gallery("ann", "bob")
    double = probe(0.72, 0.1)
    namer = Namer(known)
    now = seen(namer, 1, *[double] * 10)
    assert name_of(namer, 1, now) == "ann"
    namer.set_known(rejecting(known, 0, double))
    said = namer.decide([1], now)[1]
    assert (said.name, said.reason) == (None, "a person said that this is not ann")
    now = seen(namer, 1, *[probe(0.74, 0.12)] * 30, start=now + 0.1)
    assert name_of(namer, 1, now) is None
    namer.reset()
    now = seen(namer, 2, *[double] * 30, start=now + 1)
    assert name_of(namer, 2, now) is None, "nor on another track"


def test_the_member_herself_is_still_named_after_her_double_was_rejected() -> None:
    double = probe(0.72, 0.1)
    namer = Namer(rejecting(gallery("ann", "bob"), 0, double))
    herself = probe(0.8, 0.1, noise=20)
    assert float(herself @ double) > 0.55, "they do resemble each other"
    now = seen(namer, 1, *[herself] * 3)
    assert name_of(namer, 1, now) == "ann"


def test_who_is_not_one_member_may_be_another() -> None:
    face = probe(0.66, 0.63)
    known = gallery("ann", "bob")
    namer = Namer(known)
    now = seen(namer, 1, *[face] * 10)
    assert name_of(namer, 1, now) is None, "too near to both"
    namer.set_known(rejecting(known, 0, face))
    assert name_of(namer, 1, now) == "bob"


def test_a_rejected_face_says_nothing_about_a_face_that_is_like_neither() -> None:
    known = gallery("ann", "bob")
    namer = Namer(rejecting(known, 1, probe(0.0, 0.6)))
    now = seen(namer, 1, *[probe(0.75, 0.1, noise=9)] * 3)
    assert name_of(namer, 1, now) == "ann"


def test_a_rejection_weighs_on_blurred_and_turned_faces_as_well() -> None:
    double = probe(0.72, 0.1)
    namer = Namer(rejecting(gallery("ann", "bob"), 0, double))
    worse = (0.8 * double + 0.6 * axis(30)).astype(np.float32)
    for quality in (BLURRED, PROFILE, CLEAR):
        namer.reset()
        now = seen(namer, 1, *[worse] * 30, quality=quality)
        assert name_of(namer, 1, now) is None


def test_the_margin_raises_and_lowers_every_level() -> None:
    looks = [probe(0.56, 0.1)] * 10
    names = {}
    for margin in (-0.1, 0.0, 0.1):
        namer = Namer(gallery("ann", "bob"), margin=margin)
        now = seen(namer, 1, looks[0])
        once = name_of(namer, 1, now)
        now = seen(namer, 1, *looks, start=now + 0.1)
        names[margin] = (once, name_of(namer, 1, now))
    assert names == {-0.1: ("ann", "ann"), 0.0: (None, "ann"), 0.1: (None, None)}


def reasons(namer: Namer, track: int, now: float) -> tuple[str | None, str | None]:
    said = namer.decide([track], now)[track]
    return said.name, said.reason


def test_every_change_of_a_name_has_a_reason_and_only_a_change_has_one() -> None:
    namer = Namer(gallery("ann", "bob"))
    namer.observe(1, probe(0.75, 0.15), CLEAR, 0.0)
    assert reasons(namer, 1, 0.0) == ("ann", "similarity 0.75, 0.60 ahead of bob")
    assert reasons(namer, 1, 0.1) == ("ann", None)
    namer.doubt(1)
    assert reasons(namer, 1, 0.2) == (None, "out of sight for a moment")
    assert reasons(namer, 1, 0.3) == (None, None)
    namer.observe(1, probe(0.75, 0.15), CLEAR, 0.4)
    assert reasons(namer, 1, 0.4)[0] == "ann"
    assert not namer.observe(1, probe(0.0, 0.1, noise=5), CLEAR, 0.5)
    assert reasons(namer, 1, 0.5) == (None, "a contrary face")
    for number in range(8):
        namer.observe(1, probe(0.75, 0.15), CLEAR, 1.0 + 0.1 * number)
    assert reasons(namer, 1, 2.0)[0] == "ann"
    assert reasons(namer, 1, 2.0 + UNSEEN_SECONDS) == (None, "no face seen for 4 s")
    namer.observe(1, probe(0.75, 0.15), CLEAR, 9.0)
    assert reasons(namer, 1, 9.0)[0] == "ann"
    namer.set_known(Known(MODEL, ("bob",), np.zeros(1, np.int64), axis(1)[None]))
    assert reasons(namer, 1, 9.0) == (None, "the member was removed")


def test_the_loser_of_a_name_is_told_why() -> None:
    namer = Namer(gallery("ann", "bob"))
    namer.observe(1, probe(0.65, 0.1), CLEAR, 0.0)
    assert name_of(namer, 1) == "ann"
    for number in range(1, 4):
        namer.observe(2, probe(0.95, 0.1), CLEAR, 0.1 * number)
    said = namer.decide([1, 2], 0.3)
    assert (said[1].name, said[1].reason) == (None, "another track is nearer to ann")
    assert said[2].name == "ann"


def test_a_doubted_name_goes_to_the_track_that_shows_the_face() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.9)] * 4)
    namer.observe(2, probe(0.9), CLEAR, now)
    assert [said.name for said in namer.decide([1, 2], now).values()] == ["ann", None]
    namer.doubt(1)
    assert [said.name for said in namer.decide([1, 2], now).values()] == [None, "ann"]


def test_a_look_alike_takes_no_doubted_name() -> None:
    namer = Namer(gallery("ann", "bob"))
    now = seen(namer, 1, *[probe(0.9)] * 4)
    for _ in range(4):
        namer.observe(2, probe(0.9 - 1.5 * EMBEDDED_LEVELS.hold), CLEAR, now)
        namer.decide([1, 2], now)
    namer.doubt(1)
    assert [said.name for said in namer.decide([1, 2], now).values()] == [None, None]


def faces(photos: int, members: int, dimension: int = DIMENSION) -> Known:
    """Members of one family, each with some photos; the last one has none."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(photos, dimension)) + 0.7 * rng.normal(size=dimension)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = rng.integers(0, members - 1, photos)
    return Known(MODEL, tuple(f"m{number}" for number in range(members)), owners, vectors.astype(np.float32))


def test_the_level_of_a_member_is_above_every_photo_of_the_others() -> None:
    known = faces(300, 12)
    made = Templates(known, EMBEDDED_LEVELS)
    nearest = np.full(12, -1.0)
    for owner, photo in zip(known.owners, known.embeddings, strict=True):
        scores = made.scores(photo)
        scores[owner] = -1.0
        nearest = np.maximum(nearest, scores)
    assert nearest[-1] == -1.0
    assert (nearest[:-1] > EMBEDDED_LEVELS.level).any()
    lowest = EMBEDDED_LEVELS.level + GALLERY_EXTRA * np.log2(12 / COMFORTABLE_MEMBERS)
    assert np.allclose(made.level, np.maximum(lowest, np.minimum(nearest + GROUP_GAP, GROUP_CEILING)), atol=1e-5)
    assert np.allclose(Templates(Known.nobody(MODEL), EMBEDDED_LEVELS).level, [])


def test_a_large_gallery_is_ready_before_vision_is_taken_for_hanging() -> None:
    """It is prepared for each stream whenever anything in it changes."""
    known = faces(2000, 200, dimension=512)
    began = time.process_time()
    Templates(known, EMBEDDED_LEVELS)
    assert time.process_time() - began < 1.0
