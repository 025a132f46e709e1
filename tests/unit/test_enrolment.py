"""Which face of a photo is the member's, when a photo is refused, and what is said about one that is kept."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from streamer.errors import GalleryError, PhotoRefused
from streamer.tracks import Box
from streamer.vision import photos
from streamer.vision.enrolment import MIN_FACE_PIXELS, FacePick, judge, same_face, with_face
from streamer.vision.known import Known, PhotoFace, PhotoReading
from streamer.vision.member import NewPhoto

WIDTH, HEIGHT = 1000, 600
X, Y, Z = np.eye(3, dtype=np.float32)
NOBODY = Known.nobody("m")


def photo(scale: int = 1) -> tuple[bytes, photos.DecodedPhoto]:
    buffer = io.BytesIO()
    Image.new("L", (WIDTH * scale, HEIGHT * scale), "grey").save(buffer, "JPEG")
    return buffer.getvalue(), photos.decode(buffer.getvalue())


def face(
    x: float, size: float = 100, embedding: np.ndarray = X, sharpness: float = 150.0, yaw: float = 0.0
) -> PhotoFace:
    return PhotoFace((x - size / 2, 300 - size / 2, x + size / 2, 300 + size / 2), 0.9, embedding, sharpness, yaw)


def judged(*faces: PhotoFace, pick: FacePick | None = None, known: Known = NOBODY, scale: int = 1) -> NewPhoto:
    data, decoded = photo(scale)
    height, width = decoded.bgr.shape[:2]
    reading = PhotoReading("m", width, height, faces)
    return judge(data, decoded, reading, name="Rei", file="a.jpg", source="upload", pick=pick, known=known)


def refusal(*faces: PhotoFace, pick: FacePick | None = None) -> str:
    with pytest.raises(PhotoRefused) as caught:
        judged(*faces, pick=pick)
    assert str(caught.value).startswith("a.jpg: ")
    return str(caught.value)


def test_one_good_face_is_kept_without_a_word() -> None:
    new = judged(face(500))
    assert new.remark is None
    assert new.face_xyxy == (450, 250, 550, 350)
    assert (new.width, new.height, new.extension, new.model_id) == (WIDTH, HEIGHT, "jpg", "m")
    with Image.open(io.BytesIO(new.thumbnail)) as small:
        assert small.size == (160, 160)


def test_boxes_are_in_pixels_of_the_full_photo() -> None:
    new = judged(face(500), scale=4)
    assert (new.width, new.height) == (4000, 2400)
    assert new.face_xyxy == (900, 500, 1100, 700)


def test_no_face() -> None:
    assert "no face" in refusal()


def test_several_faces_are_counted_and_placed() -> None:
    message = refusal(face(700, 90), face(200, 100), face(500, 80))
    assert "3 faces" in message
    assert "1 at 200,300 (100 px), 2 at 500,300 (80 px), 3 at 700,300 (90 px)" in message
    assert "face=1…3" in message


def test_a_face_far_larger_than_the_rest_is_taken() -> None:
    new = judged(face(200, 100), face(700, 200))
    assert new.face_xyxy[0] == 600
    assert "largest of 2" in (new.remark or "")
    assert "2 faces" in refusal(face(200, 101), face(700, 200))


def test_the_chosen_face_is_taken() -> None:
    faces = (face(700, 90, Z), face(200, 100, X), face(500, 80, Y))
    assert np.array_equal(judged(*faces, pick=FacePick.parse("2")).face.embedding, Y)
    assert np.array_equal(judged(*faces, pick=FacePick.parse("640, 310")).face.embedding, Z)
    assert "no face 4" in refusal(*faces, pick=FacePick.parse("4"))
    # A point is in pixels of the photo, not of what was scaled down for reading.
    new = judged(face(400, 90, X), face(1600, 90, Y), pick=FacePick(point=(3000.0, 600.0)), scale=4)
    assert np.array_equal(new.face.embedding, Y)


@pytest.mark.parametrize("text", ["0", "-1", "left", "1;2", "1,2,3", "", "9" * 40])
def test_a_choice_that_is_none(text: str) -> None:
    with pytest.raises(GalleryError, match="neither"):
        FacePick.parse(text)


def test_small_and_blurred_faces_say_what_was_measured() -> None:
    assert "39 pixels" in refusal(face(500, MIN_FACE_PIXELS - 1))
    judged(face(500, MIN_FACE_PIXELS))
    message = refusal(face(500, sharpness=5.4))
    assert "blurred" in message
    assert "5" in message
    assert "a little blurred" in (judged(face(500, sharpness=20)).remark or "")
    assert "turned" in (judged(face(500, yaw=-0.9)).remark or "")


def known(**members: np.ndarray) -> Known:
    rows = np.stack(list(members.values()))
    return Known("m", tuple(members), np.arange(len(members), dtype=np.int64), rows)


def test_a_face_that_is_rather_somebody_else_is_kept_with_a_warning() -> None:
    near = np.array([0.8, 0.6, 0.0], np.float32)
    assert judged(face(500, embedding=near), known=known(rei=X, Liz=Y)).remark is None
    remark = judged(face(500, embedding=near), known=known(rei=Y, Liz=X)).remark or ""
    assert "'Liz' (similarity 0.80)" in remark
    assert "'Rei' (0.60)" in remark
    # The member's first photo, which is somebody else's too.
    assert "'Liz' (similarity 1.00)" in (judged(face(500), known=known(Liz=X)).remark or "")
    # The same picture, saved again.
    assert "same picture as one of 'Liz'" in (judged(face(500), known=known(Liz=X)).remark or "")
    # Another face of the same group photo is another picture.
    assert judged(face(200, embedding=Z), face(700, 300), known=known(Liz=Z)).remark == "took the largest of 2 faces"


def test_a_face_that_does_not_fit_the_members_other_photos_is_kept_with_a_warning() -> None:
    remark = judged(face(500, embedding=X), known=known(rei=Y, Liz=np.array([0.4, 0.0, 0.9165], np.float32))).remark
    assert remark is not None
    assert "does not fit the other photos of 'Rei' (similarity 0.00, nearer to 'Liz' (0.40))" in remark
    assert "does not fit" in (judged(face(500, embedding=X), known=known(rei=Y)).remark or "")
    fits = np.array([0.5, 0.8660254, 0.0], np.float32)
    assert judged(face(500, embedding=fits), known=known(rei=X)).remark is None
    # Another recogniser, other cosines.
    low = np.array([0.3, 0.9539392, 0.0], np.float32)
    assert judged(face(500, embedding=low), known=known(rei=X)).remark is not None
    assert judged(face(500, embedding=low), known=replace(known(rei=X), model_id="w600k_r50-1")).remark is None


def test_a_set_of_photos_is_judged_with_those_before() -> None:
    grown = with_face(with_face(NOBODY, "Rei", X), "liz", Y)
    grown = with_face(grown, "REI", Z)
    assert grown.names == ("Rei", "liz")
    assert grown.owners.tolist() == [0, 1, 0]
    assert np.array_equal(grown.embeddings, np.stack([X, Y, Z]))
    assert with_face(grown, "rei", np.ones(5, np.float32)) is grown


def test_embeddings_of_another_length_are_not_compared() -> None:
    other = Known("m", ("Liz",), np.zeros(1, np.int64), np.ones((1, 5), np.float32))
    assert judged(face(500), known=other).remark is None


def test_the_same_face_in_a_new_reading() -> None:
    box: Box = (900.0, 500.0, 1100.0, 700.0)
    reading = PhotoReading("m2", 2000, 1200, (face(100), face(510, embedding=Y), face(480, 20, Z)))
    found = same_face(reading, 4000, box)
    assert found is not None
    assert np.array_equal(found.embedding, Y)
    assert same_face(PhotoReading("m2", 2000, 1200, (face(100),)), 4000, box) is None
