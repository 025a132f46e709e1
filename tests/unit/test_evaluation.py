"""What `streamer eval` reads, counts and chooses, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import ConfigError
from streamer.evaluation.calibration import ListeningNamer, Recording, calibrate, without
from streamer.evaluation.dataset import Shot, read_dataset
from streamer.evaluation.flicker import Flicker
from streamer.evaluation.scoring import ClipScore, score_photo
from streamer.frames import Frame
from streamer.tracks import LABEL_PERSON, FrameResult, Track
from streamer.vision.known import Known
from streamer.vision.quality import FaceQuality

CLEAR = FaceQuality(size=120, sharpness=300, yaw=0.0, pitch=0.0)


# The data set ---------------------------------------------------------------------------------------------------------


def dataset(folder: Path, clips: Any = None, photos: Any = None) -> Path:
    """A data set with the member ann; `clips` and `photos` are what the JSON files hold (text: as it is)."""
    (folder / "gallery" / "ann").mkdir(parents=True)
    (folder / "gallery" / "ann" / "1.jpg").write_bytes(b"x")
    for kind, said in (("clips", clips), ("photos", photos)):
        if said is not None:
            (folder / kind).mkdir()
            (folder / kind / "a.bin").write_bytes(b"x")
            (folder / f"{kind}.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return folder


def test_a_data_set_is_read(tmp_path: Path) -> None:
    shots = [{"from": 0, "to": 4, "members": ["ann"]}, {"from": 5, "to": 9, "members": []}]
    (tmp_path / "gallery" / ".cache").mkdir(parents=True)
    found = read_dataset(dataset(tmp_path, clips={"a.bin": shots}, photos={"a.bin": ["ann"]}))
    assert list(found.gallery) == ["ann"]
    assert found.photos == {tmp_path / "photos" / "a.bin": frozenset({"ann"})}
    ((path, read),) = found.clips.items()
    assert path == tmp_path / "clips" / "a.bin"
    assert [(shot.first, shot.last, set(shot.members)) for shot in read] == [(0, 4, {"ann"}), (5, 9, set())]


@pytest.mark.parametrize(
    ("clips", "photos", "why"),
    [
        (None, None, "neither photos.json nor clips.json"),
        ("{", None, r"clips\.json cannot be used: Invalid JSON"),
        ([], None, r"clips\.json cannot be used: Input should be an object"),
        ({"a.bin": [{"from": 0, "to": 4}]}, None, r"a\.bin\.0\.members: Field required"),
        ({"a.bin": [{"from": -1, "to": 4, "members": []}]}, None, r"a\.bin\.0\.from"),
        ({"a.bin": [{"from": 5, "to": 4, "members": []}]}, None, "from frame 5 to frame 4 ends before it begins"),
        ({"a.bin": [{"from": 0, "to": 4, "members": ["zed"]}]}, None, "zed is expected somewhere but has no folder"),
        ({"b.bin": []}, None, r"clips\.json names b\.bin, which is not in"),
        (None, {"a.bin": "ann"}, r"photos\.json cannot be used: a\.bin"),
        (None, {"a.bin": ["bob"]}, "bob is expected"),
    ],
)
def test_a_bad_data_set_is_told_in_one_line(tmp_path: Path, clips: Any, photos: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as told:
        read_dataset(dataset(tmp_path, clips, photos))
    assert "\n" not in str(told.value)


def test_a_member_without_a_photo_and_files_without_a_truth_are_told(tmp_path: Path) -> None:
    folder = dataset(tmp_path, photos={"a.bin": ["ann"]})
    (folder / "gallery" / "bob").mkdir()
    with pytest.raises(ConfigError, match="bob holds no photo to enrol"):
        read_dataset(folder)
    (folder / "gallery" / "bob").rmdir()
    (folder / "clips").mkdir()
    (folder / "clips" / "b.mp4").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"clips has no clips\.json"):
        read_dataset(folder)
    with pytest.raises(ConfigError, match="is no data set"):
        read_dataset(tmp_path / "absent")


# Scores ---------------------------------------------------------------------------------------------------------------


def result(index: int, *tracks: tuple[int, str | None], width: int = 64, height: int = 48, x: int = 8) -> FrameResult:
    """Tracks (id, name); each has a mask of 16 x 24 pixels, the first one at `x`."""
    labels = np.zeros((height, width), np.uint8)
    made = []
    for number, (track, name) in enumerate(tracks):
        left = x + 24 * number
        labels[12:36, left : left + 16] = (number + 1) | LABEL_PERSON
        box = (float(left), 12.0, float(left + 16), 36.0)
        made.append(Track(track, name, 0.7, "tracked", box, None, number + 1, None))
    return FrameResult(index, index / 30, width, height, "lite", True, tuple(made), labels, {})


def frame(index: int, width: int = 64, height: int = 48) -> Frame:
    return Frame(np.full((height * 3 // 2, width), 100, np.uint8), index, index / 30, 0.0)


def score(shots: list[tuple[int, int, set[str]]], *results: FrameResult) -> dict[str, Any]:
    made = ClipScore("a.mp4", [Shot(**{"from": a, "to": b, "members": who}) for a, b, who in shots])
    for one in results:
        made.step(frame(one.frame_index), one)
    return made.report(1.0)


def test_names_on_a_photo() -> None:
    said = score_photo("a.jpg", frozenset({"ann", "bob"}), result(0, (1, "ann"), (2, "zed")))
    assert (said.true, said.false, said.missed) == (("ann",), ("zed",), ("bob",))


def test_a_clip_is_scored_shot_by_shot() -> None:
    names = [None, None, "ann", "ann", "ann", "ann", "ann", "bob", "bob", "bob"]
    said = score([(0, 4, {"ann"}), (5, 9, {"bob"})], *(result(i, (1, name)) for i, name in enumerate(names)))
    assert said["recall"] == 0.6
    assert said["wrong_frames"] == [5, 6]
    assert said["wrong_name_frames"] == 2
    assert said["name_outlives_shot_frames"] == 2
    assert [shot["seconds_to_first_name"] for shot in said["shots"]] == [pytest.approx(2 / 30, abs=1e-3)] * 2
    assert said["id_switches"] == 0


def test_frames_that_nothing_is_known_about_are_not_scored() -> None:
    said = score([(0, 1, {"ann"}), (4, 5, set())], *(result(i, (1, "ann" if i < 4 else None)) for i in range(6)))
    assert (said["recall"], said["wrong_name_frames"]) == (1.0, 0)


def test_a_name_that_moves_to_another_track_is_a_switch() -> None:
    said = score([(0, 5, {"ann"})], *(result(i, (1 if i < 3 else 2, "ann")) for i in range(6)))
    assert said["id_switches"] == 1


def test_flicker_is_nothing_for_a_mask_that_moves_with_the_picture_and_much_for_one_that_jumps() -> None:
    noise = np.random.default_rng(1).uniform(0, 255, (45, 80)).astype(np.uint8)
    picture = np.kron(noise, np.ones((8, 8), np.uint8))
    still, moving, jumping = Flicker(), Flicker(), Flicker()
    for index in range(6):
        mask = np.zeros(picture.shape, bool)
        mask[100:260, 200:360] = True
        still.step(picture, {1: mask})
        moving.step(np.roll(picture, 4 * index, axis=1), {1: np.roll(mask, 4 * index, axis=1)})
        jumping.step(picture, {1: np.roll(mask, 60 * (index % 2), axis=1)})
    assert still.mean == pytest.approx(0, abs=0.01)
    assert moving.mean is not None
    assert moving.mean < 0.03
    assert jumping.mean is not None
    assert jumping.mean > 0.4


# Calibration ----------------------------------------------------------------------------------------------------------


def axis(number: int) -> np.ndarray:
    vector = np.zeros(32, np.float32)
    vector[number] = 1
    return vector


def like(*cosines: float, noise: int) -> np.ndarray:
    """A unit vector with these cosines to the members 0, 1, …"""
    vector = np.zeros(32, np.float32)
    vector[: len(cosines)] = cosines
    vector[noise] = np.sqrt(1 - float(vector @ vector))
    return vector


def gallery(*names: str) -> Known:
    photos = np.stack([axis(number) for number in range(len(names))])
    return Known("mobilefacenet_192-test", names, np.arange(len(names), dtype=np.int64), photos)


def recorded(known: Known, *faces: tuple[np.ndarray, set[str]], frames: int = 10) -> list[Recording]:
    """One recording for each face: a person who is seen on so many frames, on all of whom the set is right."""
    recordings = []
    for face, members in faces:
        namer = ListeningNamer(known)
        for index in range(frames):
            namer.observe(1, face, CLEAR, index / 10)
            namer.decide([1], index / 10)
            namer.end_frame(frozenset(members))
        recordings.append(namer.recording)
    return recordings


def quietly(what: str, done: int, total: int) -> None:
    """Nobody is told."""


def test_the_margin_rises_over_a_look_alike() -> None:
    known = gallery("ann", "bob")
    double = like(0.60, 0.1, noise=9), set[str]()
    herself = like(0.85, 0.1, noise=10), {"ann"}
    found = calibrate(recorded(known, herself, double), known, 0.001, quietly)
    assert found.margin is not None
    assert 0.02 <= found.margin <= 0.14
    by_margin = dict(found.curve)
    assert by_margin[0.0].false > 0, "without it she is named"
    assert by_margin[found.margin].false == 0
    assert by_margin[found.margin].recall == 1.0
    rates = [counts.false_name_rate for _, counts in found.curve]
    recalls = [counts.recall for _, counts in found.curve]
    assert rates == sorted(rates, reverse=True)
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[-1] < 1.0


def test_members_are_each_others_strangers() -> None:
    """No stranger is in the data; bob, left out of the gallery, is one, and is taken for ann."""
    known = gallery("ann", "bob")
    ann, bob = (like(0.9, 0.1, noise=9), {"ann"}), (like(0.62, 0.75, noise=10), {"bob"})
    found = calibrate(recorded(known, ann, bob), known, 0.001, quietly)
    assert dict(found.curve)[0.0].false > 0
    assert found.margin is not None
    assert found.margin > 0


def test_a_few_people_do_not_show_that_less_is_enough() -> None:
    known = gallery("ann", "bob")
    people = [(like(0.8, 0.05, noise=9 + n), {"ann"}) for n in range(4)]
    few = calibrate(recorded(known, *people), known, 0.001, quietly)
    assert (few.margin, few.limited, few.people) == (0.0, True, 4)
    enough = calibrate(recorded(known, *people, frames=2), known, 0.75, quietly)
    assert not enough.limited
    assert enough.margin is not None
    assert enough.margin < 0


def test_no_margin_is_no_margin() -> None:
    known = gallery("ann", "bob")
    twin = like(0.98, 0.1, noise=9), set[str]()
    herself = like(0.98, 0.1, noise=10), {"ann"}
    found = calibrate(recorded(known, herself, twin), known, 0.001, quietly)
    assert found.margin is None
    assert found.report()["margin"] is None


def test_what_cannot_be_calibrated_on_is_told() -> None:
    known = gallery("ann")
    with pytest.raises(ConfigError, match="nothing to calibrate on"):
        calibrate([Recording(False)], known, 0.001, quietly)
    with pytest.raises(ConfigError, match="nothing to calibrate on"):
        calibrate(recorded(known, (like(0.1, noise=9), set())), known, 0.001, quietly)


def test_a_member_is_left_out_with_all_that_is_theirs() -> None:
    known = Known(
        "m",
        ("a", "b", "c"),
        np.array([0, 1, 1, 2]),
        np.eye(4, 8, dtype=np.float32),
        np.array([1, 2]),
        np.eye(2, 8, 4, dtype=np.float32),
    )
    left = without(known, "b")
    assert left.names == ("a", "c")
    assert left.owners.tolist() == [0, 1]
    assert np.array_equal(left.embeddings, known.embeddings[[0, 3]])
    assert left.rejected_owners.tolist() == [1]
    assert np.array_equal(left.rejected, known.rejected[[1]])
