"""The real embedded models on real photos that dependencies ship: names and masks, not only shapes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data as skimage_data

from streamer.egress.overlay import draw
from streamer.errors import ModelMissing, PromptUnsupported, VisionUnavailable
from streamer.frames import Frame, planes
from streamer.service.settings import VisionSettings
from streamer.tracks import LABEL_PERSON, FrameResult, Target, Track
from streamer.vision.faces import input_size, providers_of
from streamer.vision.known import Known
from streamer.vision.loading import Models, build_models
from streamer.vision.models import MANIFEST, SCRFD_FILE, ModelStore
from streamer.vision.processor import FrameProcessor

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def models(model_store: ModelStore) -> Models:
    return build_models(VisionSettings(), model_store.root.parent)


@pytest.fixture(scope="module")
def friends() -> np.ndarray:
    """Six people side by side, 1280 x 886."""
    return photo("t1.jpg")


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """One person, 512 x 512."""
    return np.ascontiguousarray(skimage_data.astronaut()[..., ::-1])


@pytest.fixture
def vision(models: Models) -> Iterator[FrameProcessor]:
    processor = models.processor()
    yield processor
    processor.close()


def photo(name: str) -> np.ndarray:
    picture = cv2.imread(str(files("insightface") / "data" / "images" / name))
    assert picture is not None
    return picture


def frame(bgr: np.ndarray, index: int = 0) -> Frame:
    height, width = bgr.shape[0] // 2 * 2, bgr.shape[1] // 2 * 2
    i420 = cv2.cvtColor(np.ascontiguousarray(bgr[:height, :width]), cv2.COLOR_BGR2YUV_I420)
    return Frame(i420, index, index / 30, time.monotonic())


def on_stage(bgr: np.ndarray, x: int = 0) -> np.ndarray:
    """640 x 360 view of a photo, from its left edge plus `x`."""
    scale = max(360 / bgr.shape[0], 700 / bgr.shape[1])
    large = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return large[:360, x : x + 640]


def known(models: Models, **photos: np.ndarray) -> Known:
    """One member for each photo, by its largest face."""
    assert models.faces is not None
    embeddings = [models.faces.read_photo(picture)[0].embedding for picture in photos.values()]
    return Known(models.faces.model_id, tuple(photos), np.arange(len(photos), dtype=np.int64), np.stack(embeddings))


def everyone(models: Models, picture: np.ndarray) -> Known:
    """A member for each face of a group photo: friend0 is the leftmost."""
    assert models.faces is not None
    faces = sorted(models.faces.read_photo(picture), key=lambda face: face.box_xyxy[0])
    names = tuple(f"friend{number}" for number in range(len(faces)))
    return Known(
        models.faces.model_id,
        names,
        np.arange(len(faces), dtype=np.int64),
        np.stack([face.embedding for face in faces]),
    )


def named(result: FrameResult) -> list[str]:
    """Names from left to right."""
    tracks = sorted((track for track in result.tracks if track.name), key=lambda track: track.box_xyxy[0])
    return [track.name for track in tracks if track.name]


def by_name(result: FrameResult, name: str) -> Track:
    return next(track for track in result.tracks if track.name == name)


def test_faces_are_found_and_told_apart(models: Models, friends: np.ndarray) -> None:
    assert models.faces is not None
    faces = models.faces.read_photo(friends)
    assert len(faces) == 6
    cosines = np.stack([face.embedding for face in faces]) @ np.stack([face.embedding for face in faces]).T
    assert np.allclose(np.diag(cosines), 1, atol=1e-4)
    # Two of the six are look-alikes to this recogniser, at 0.49.
    assert (cosines - 2 * np.eye(6)).max() < 0.55
    assert all(face.quality.weight > 0.5 for face in faces)


def test_a_face_that_fills_the_photo_is_read(models: Models, astronaut: np.ndarray) -> None:
    assert models.faces is not None
    (usual, *_) = models.faces.read_photo(astronaut)
    x0, y0, x1, y1 = (int(v) for v in usual.box_xyxy)
    close = cv2.resize(astronaut[max(y0, 0) : y1, max(x0, 0) : x1], None, fx=6, fy=6)
    (large, *_) = models.faces.read_photo(close)
    assert float(usual.embedding @ large.embedding) > 0.6


def test_a_picture_without_a_face(models: Models, vision: FrameProcessor) -> None:
    assert models.faces is not None
    coins = cv2.cvtColor(skimage_data.coins(), cv2.COLOR_GRAY2BGR)
    assert models.faces.read_photo(coins) == []
    result = vision.step(frame(coins))
    assert result.tracks == ()
    assert result.label_map is None
    assert result.identified


def test_a_group_is_named_right_in_a_photo_it_was_not_enrolled_from(models: Models, friends: np.ndarray) -> None:
    """Smaller, darker, mirrored and compressed: other pixels, the same six people."""
    changed = cv2.flip(cv2.resize(friends, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), 1)
    changed = cv2.convertScaleAbs(changed, alpha=0.8, beta=5)
    changed = cv2.imdecode(cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    still = models.processor(still=True)
    still.set_known(everyone(models, friends))
    result = still.step(frame(changed))
    assert named(result) == [f"friend{number}" for number in reversed(range(6))]
    # Each name sits on its own mask: the middle of the face belongs to the track.
    for track in result.tracks:
        assert track.face_xyxy is not None
        x0, y0, x1, y1 = track.face_xyxy
        inner = result.mask(track)[int(y0 + y1) // 2, int(x0 + x1) // 2]
        assert inner, track


def test_strangers_stay_unknown(models: Models, friends: np.ndarray, astronaut: np.ndarray) -> None:
    still = models.processor(still=True)
    still.set_known(known(models, eileen=astronaut, tom=photo("Tom_Hanks_54745.png")))
    result = still.step(frame(friends))
    assert len(result.tracks) == 6
    assert named(result) == []
    still.set_known(everyone(models, friends))
    assert named(still.step(frame(astronaut))) == []


def test_a_person_is_followed_named_and_masked(models: Models, vision: FrameProcessor, astronaut: np.ndarray) -> None:
    vision.set_known(known(models, eileen=astronaut, tom=photo("Tom_Hanks_54745.png")))
    vision.set_target(Target(member="eileen"))
    ids, looks = set(), 0
    for index in range(20):
        picture = on_stage(astronaut, 2 * index)
        result = vision.step(frame(picture, index))
        (track,) = result.tracks
        ids.add(track.id)
        looks += result.identified
        if index >= 4:
            assert track.name == "eileen"
            assert track.similarity is not None
            assert track.similarity > 0.6
        mask = result.mask(track)
        assert track.state == "tracked"
        assert track.face_xyxy is not None
        x, y = (track.face_xyxy[0] + track.face_xyxy[2]) / 2, (track.face_xyxy[1] + track.face_xyxy[3]) / 2
        assert mask[int(y), int(x)], f"the face is inside the mask on frame {index}"
        assert 0.1 < mask.mean() < 0.8
        assert not mask[:40, 560:].any(), "the flag behind her is not"
    assert len(ids) == 1
    assert looks < 10


def test_a_live_hide_hides_from_the_first_frame_of_a_shot_and_lets_strangers_be(
    models: Models, vision: FrameProcessor, astronaut: np.ndarray, friends: np.ndarray
) -> None:
    """Small and out of focus, it takes some looks to know her; until then nobody knows that it is not the member."""
    target = Target(member="eileen")
    vision.set_known(known(models, eileen=astronaut))
    vision.set_target(target)
    far = np.full((360, 640, 3), 70, np.uint8)
    far[160:, 200:400] = cv2.GaussianBlur(cv2.resize(astronaut, (200, 200), interpolation=cv2.INTER_AREA), (0, 0), 1)
    shots = [on_stage(friends)] * 24 + [far] * 20
    names = []
    for index, picture in enumerate(shots):
        shown = frame(picture, index)
        result = vision.step(shown)
        if index < 24:
            continue
        (track,) = result.tracks
        names.append(track.name)
        assert track.face_xyxy is not None
        x0, y0, x1, y1 = (round(v) for v in track.face_xyxy)
        faces = [
            planes(i420)[0][y0:y1, x0:x1].astype(np.float32)
            for i420 in (shown.i420, draw(shown, result, "hide", target))
        ]
        before, after = (float((face - cv2.GaussianBlur(face, (0, 0), 6)).std()) for face in faces)
        assert after < 0.2 * before, f"to be seen on frame {index}"
    assert names[0] is None
    assert names[-1] == "eileen"
    settled = vision_of(models, friends, target, 12)
    assert len(settled.tracks) > 3
    assert not any(track.undecided for track in settled.tracks), "strangers are strangers soon"


def test_a_live_hide_goes_on_while_the_member_turns_away_for_long(
    models: Models, vision: FrameProcessor, astronaut: np.ndarray
) -> None:
    vision.set_known(known(models, eileen=astronaut, tom=photo("Tom_Hanks_54745.png")))
    facing = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8), (640, 360))
    facing[110:, 200:450] = cv2.resize(astronaut, (250, 250), interpolation=cv2.INTER_AREA)
    over_the_face = np.zeros((360, 640), np.float32)

    def shown(index: int, picture: np.ndarray) -> tuple[Track, bool]:
        given = replace(frame(picture, index), pts_seconds=0.75 * index)  # a look on each frame
        result = vision.step(given)
        (track,) = result.tracks
        hidden = planes(draw(given, result, "hide", target))[0] != planes(given.i420)[0]
        return track, bool(hidden[result.mask(track)].mean() > 0.5)

    target = Target(member="eileen")
    vision.set_target(target)
    for index in range(20):
        track, _ = shown(index, facing)
    assert track.name == "eileen"
    assert track.face_xyxy is not None
    x0, y0, x1, y1 = (round(v) for v in track.face_xyxy)
    middle, radii = ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2 + 8, (y1 - y0) // 2 + 8)
    cv2.ellipse(over_the_face, middle, radii, 0, 0, 360, (1,), -1)
    over_the_face = cv2.GaussianBlur(over_the_face, (0, 0), 2)
    for index in range(20, 40):
        share = min((index - 20) / 8, 1) * over_the_face[..., None]
        turned = (facing * (1 - share) + share * (30, 40, 60)).astype(np.uint8)
        track, hidden = shown(index, turned)
        assert hidden, f"to be seen on frame {index}"
    assert track.name is None, "no face for long"
    target = Target(member="tom")
    vision.set_target(target)
    assert not shown(40, turned)[1], "she was never him"


def vision_of(models: Models, picture: np.ndarray, target: Target, count: int) -> FrameResult:
    """The result of the last of `count` equal pictures."""
    processor = models.processor()
    processor.set_known(known(models, eileen=np.ascontiguousarray(skimage_data.astronaut()[..., ::-1])))
    processor.set_target(target)
    for index in range(count):
        result = processor.step(frame(on_stage(picture), index))
    processor.close()
    return result


def test_no_name_and_no_mask_crosses_a_cut(
    models: Models, vision: FrameProcessor, astronaut: np.ndarray, friends: np.ndarray
) -> None:
    vision.set_known(known(models, eileen=astronaut))
    shots = [on_stage(astronaut)] * 6 + [on_stage(friends)] * 6 + [np.zeros((360, 640, 3), np.uint8)] * 3
    before: set[int] = set()
    for index, picture in enumerate(shots):
        result = vision.step(frame(picture, index))
        if index == 5:
            assert named(result) == ["eileen"]
            before = {track.id for track in result.tracks}
        if index >= 6:
            assert named(result) == []
            assert not before & {track.id for track in result.tracks}
    assert result.tracks == ()


def test_a_track_is_tracked_where_it_has_a_mask_and_only_there(
    models: Models, vision: FrameProcessor, friends: np.ndarray
) -> None:
    """In a crowd masks are sought over some frames: until then, and where none is found, there is but a face."""
    vision.set_known(everyone(models, friends))
    without = 0
    for index in range(12):
        result = vision.step(frame(on_stage(friends, index), index))
        assert len(result.tracks) > 3
        for track in result.tracks:
            assert (track.state == "tracked") == bool(result.mask(track).any()), (index, track)
            without += track.state == "lost"
            assert track.seen, "the face was there in the newest look"
    assert without


def test_a_removed_member_is_gone_on_the_next_frame(
    models: Models, vision: FrameProcessor, astronaut: np.ndarray
) -> None:
    gallery = known(models, eileen=astronaut)
    vision.set_known(gallery)
    for index in range(3):
        result = vision.step(frame(on_stage(astronaut), index))
    assert named(result) == ["eileen"]
    vision.set_known(Known.nobody(gallery.model_id))
    assert named(vision.step(frame(on_stage(astronaut), 3))) == []


def test_leaving_and_coming_back(models: Models, vision: FrameProcessor, astronaut: np.ndarray) -> None:
    """The room stays, she goes: the track ends; she returns as a new track with her name."""
    vision.set_known(known(models, eileen=astronaut))
    room = np.full((360, 640, 3), 60, np.uint8)
    room[::24] = 90
    room[:, ::32] = 120
    person = cv2.resize(astronaut, (300, 300), interpolation=cv2.INTER_AREA)
    there = room.copy()
    there[60:, 300:600] = person
    vision.step(frame(room, 0))
    first = [vision.step(frame(there, index)) for index in range(1, 8)][-1]
    gone = [vision.step(frame(room, index)) for index in range(8, 48)][-1]
    back = [vision.step(frame(there, index)) for index in range(48, 78)][-1]
    assert named(first) == named(back) == ["eileen"]
    assert gone.tracks == ()
    assert by_name(back, "eileen").id > by_name(first, "eileen").id


@pytest.mark.parametrize("prompt", ["shirt", "face", "hair", "the shirt and her hair"])
def test_parts_lie_inside_the_person(
    models: Models, vision: FrameProcessor, astronaut: np.ndarray, prompt: str
) -> None:
    vision.set_known(known(models, eileen=astronaut))
    vision.set_target(Target(member="eileen", object=prompt))
    for index in range(3):
        result = vision.step(frame(astronaut, index))
    track = by_name(result, "eileen")
    assert track.object_prompt == prompt
    part, whole = result.object_mask(track), result.mask(track)
    assert not (part & ~whole).any()
    assert 0.02 < part.sum() / whole.sum() < 0.95
    assert track.face_xyxy is not None
    x0, y0, x1, y1 = (int(v) for v in track.face_xyxy)
    nose = part[(y0 + y1) // 2, (x0 + x1) // 2]
    chest = part[min(y1 + (y1 - y0), 511), (x0 + x1) // 2]
    crown = part[max(y0 - (y1 - y0) // 5, 0) : y0 + 4, (x0 + x1) // 2].any()
    assert (bool(nose), bool(chest), bool(crown)) == (
        prompt == "face",
        "shirt" in prompt,
        "hair" in prompt,
    )


def test_a_phrase_that_lite_cannot_answer(models: Models, vision: FrameProcessor) -> None:
    models.check_phrase("T-Shirt, hair")
    for call in (models.check_phrase, lambda prompt: vision.set_target(Target(object=prompt))):
        with pytest.raises(PromptUnsupported, match=r"red hat.*hair.*sam3"):
            call("red hat")


def test_everybody_is_marked_when_asked_for(models: Models, vision: FrameProcessor, astronaut: np.ndarray) -> None:
    vision.set_target(Target(everybody=True))
    result = vision.step(frame(astronaut))
    assert result.label_map is not None
    marked = (result.label_map & LABEL_PERSON) > 0
    (track,) = result.tracks
    assert not (result.mask(track) & ~marked).any()
    assert 0.2 < marked.mean() < 0.9


def test_more_faces_than_tracks_keeps_the_target(models: Models, model_store: ModelStore, friends: np.ndarray) -> None:
    """Two tracks for six people: the member has one of them, however small their face."""
    small = replace(models, settings=VisionSettings(max_tracks=2))
    vision = small.processor()
    assert models.faces is not None
    vision.set_known(everyone(models, friends))
    smallest = models.faces.read_photo(friends)[-1]
    left = sum(face.box_xyxy[0] < smallest.box_xyxy[0] for face in models.faces.read_photo(friends))
    vision.set_target(Target(member=f"friend{left}"))
    for index in range(8):
        result = vision.step(frame(friends, index))
    assert len(result.tracks) <= 2
    assert f"friend{left}" in named(result)


def test_detector_input_follows_the_picture() -> None:
    assert input_size(1280, 720, (640, 384)) == (640, 384)
    assert input_size(720, 1280, (640, 384)) == (384, 640)
    for width, height in [(16, 16), (640, 360), (4000, 300), (1080, 1080), (1440, 1080)]:
        wide, high = input_size(width, height, (640, 384))
        assert wide % 32 == high % 32 == 0
        assert 32 <= min(wide, high) <= max(wide, high) <= 640
        assert wide * high <= 640 * 384 * 1.25


def test_cuda_that_is_not_there_is_an_error_not_the_cpu(models: Models, model_store: ModelStore) -> None:
    if len(_cuda()) > 0:
        pytest.skip("this machine has CUDA")
    with pytest.raises(VisionUnavailable, match="onnxruntime-gpu"):
        build_models(VisionSettings(device="cuda"), model_store.root.parent)


def _cuda() -> list[str]:
    try:
        return [name for name in providers_of("cuda") if name.startswith("CUDA")]
    except VisionUnavailable:
        return []


def test_a_damaged_model_is_named_with_the_way_out(model_store: ModelStore, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    shutil.copytree(model_store.folder("embedded"), store.folder("embedded"))
    assert store.ensure("embedded") == store.folder("embedded")
    assert store.model_id("embedded") == model_store.model_id("embedded")
    damaged = store.folder("embedded") / SCRFD_FILE
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelMissing, match=rf"{SCRFD_FILE} is damaged.*streamer models pull embedded"):
        store.ensure("embedded")
    assert {file.file: file.status for file in store.list() if file.pack == "embedded"}[SCRFD_FILE] == "damaged"
    (store.folder("embedded") / MANIFEST).write_text("{")
    with pytest.raises(ModelMissing, match="models pull embedded"):
        store.ensure("embedded")


def test_an_unknown_pack_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="buffalo_l"):
        ModelStore(tmp_path).ensure("antelope")


def test_models_say_their_licence(model_store: ModelStore) -> None:
    listed = model_store.list()
    assert all(file.licence and file.origin for file in listed)
    assert {file.status for file in listed if file.pack in ("lite", "embedded")} == {"ok"}
    scrfd = next(file for file in listed if file.file == SCRFD_FILE)
    assert "non-commercial" in scrfd.licence
