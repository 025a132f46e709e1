"""Faces to instances, parts to people, duplicates, holes, carried faces. Plain arrays: runs without torch."""

from __future__ import annotations

import numpy as np

from streamer.vision.engines.sam3.association import assign_faces, box_around, face_covered, overlap, parts_of
from streamer.vision.engines.sam3.carry import CarriedFace
from streamer.vision.engines.sam3.postprocess import clean, keep_distinct

SIZE = (200, 300)


def masks(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = SIZE) -> np.ndarray:
    made = np.zeros((len(boxes), *shape), bool)
    for mask, (x0, y0, x1, y1) in zip(made, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return made


def test_each_face_gets_its_own_person() -> None:
    people = masks((20, 20, 120, 200), (100, 10, 200, 200), (220, 100, 290, 160))
    faces = [(45.0, 25.0, 80.0, 65.0), (130.0, 15.0, 165.0, 55.0)]
    assert assign_faces(people, [0.9, 0.95, 0.8], faces, SIZE) == {0: 0, 1: 1}


def test_two_faces_never_share_a_person() -> None:
    people = masks((20, 20, 200, 200), (90, 20, 200, 200))
    faces = [(40.0, 25.0, 70.0, 65.0), (130.0, 25.0, 165.0, 65.0)]
    # The second face lies on both; the first only on the large one.
    assert assign_faces(people, [0.9, 0.5], faces, SIZE) == {0: 0, 1: 1}


def test_a_face_in_front_of_another_body_is_not_that_bodys() -> None:
    parent, child = (20, 10, 150, 200), (60, 100, 120, 200)
    faces = [(75.0, 105.0, 100.0, 130.0), (60.0, 15.0, 90.0, 45.0)]
    assert assign_faces(masks(parent, child), [0.95, 0.7], faces, SIZE) == {0: 1, 1: 0}


def test_a_face_that_nobody_covers_has_no_person() -> None:
    people = masks((20, 20, 120, 200))
    assert assign_faces(people, [0.9], [(210.0, 10.0, 240.0, 40.0)], SIZE) == {}
    assert assign_faces(people, [0.9], [(400.0, 10.0, 440.0, 40.0)], SIZE) == {}
    assert assign_faces(people, [0.9], [], SIZE) == {}
    assert assign_faces(masks(), [], [(210.0, 10.0, 240.0, 40.0)], SIZE) == {}


def test_masks_on_a_coarse_grid_and_faces_at_the_edge() -> None:
    coarse = masks((0, 0, 10, 30), shape=(32, 32))
    assert face_covered(coarse, (-20.0, 5.0, 20.0, 45.0), SIZE)[0] == 1.0
    assert face_covered(coarse, (200.0, 5.0, 240.0, 45.0), SIZE)[0] == 0.0
    # Smaller than a cell.
    assert face_covered(coarse, (10.0, 10.0, 12.0, 12.0), SIZE)[0] == 1.0


def test_the_box_around_a_face_stays_in_the_frame() -> None:
    assert box_around((140.0, 40.0, 160.0, 60.0), SIZE) == (120.0, 30.0, 180.0, 170.0)
    assert box_around((0.0, 0.0, 60.0, 60.0), SIZE) == (0.0, 0.0, 120.0, 200.0)


def test_a_part_is_the_persons_if_half_of_it_is_on_the_person() -> None:
    person = masks((20, 20, 120, 200))[0]
    shirts = masks((30, 80, 130, 140), (105, 70, 195, 140))
    part = parts_of(person, shirts)
    assert part is not None
    np.testing.assert_array_equal(part, shirts[0] & person)
    assert parts_of(person, shirts[1:]) is None
    assert parts_of(person, shirts[:0]) is None


def test_overlap() -> None:
    one = masks((0, 0, 10, 10))[0]
    np.testing.assert_allclose(overlap(one, masks((0, 0, 10, 10), (5, 0, 15, 10), (50, 50, 60, 60))), [1, 1 / 3, 0])


def test_of_duplicates_the_surest_stays() -> None:
    people = masks((0, 0, 100, 100), (5, 0, 105, 100), (200, 0, 250, 100), (0, 0, 0, 0))
    assert keep_distinct(people, np.array([0.6, 0.9, 0.7, 0.99]), 0.5) == [1, 2]
    assert keep_distinct(people[:0], np.array([]), 0.5) == []


def test_small_holes_and_crumbs_go_and_large_ones_stay() -> None:
    logits = np.full((60, 60), -5.0, np.float32)
    logits[10:50, 10:50] = 5
    logits[20:23, 20:23] = -5  # a small hole
    logits[30:40, 30:40] = -5  # a large one
    logits[2:4, 2:4] = 5  # a crumb
    cleaned = clean(logits)
    assert (cleaned[20:23, 20:23] > 0).all()
    assert (cleaned[30:40, 30:40] < 0).all()
    assert (cleaned[2:4, 2:4] < 0).all()
    untouched = np.ones_like(logits, bool)
    untouched[20:23, 20:23] = untouched[2:4, 2:4] = False
    np.testing.assert_array_equal(cleaned[untouched], logits[untouched])


def test_a_tiny_object_is_not_a_crumb() -> None:
    logits = np.full((60, 60), -5.0, np.float32)
    logits[30:33, 30:33] = 5
    np.testing.assert_array_equal(clean(logits), logits)
    assert (clean(np.full((8, 8), -1.0, np.float32)) < 0).all()


def test_a_face_moves_with_the_mask_around_it() -> None:
    def person(x: int, y: int) -> np.ndarray:
        mask = np.zeros((288, 288), bool)
        rows, columns = np.ogrid[:288, :288]
        mask[((columns - x) / 15) ** 2 + ((rows - y) / 20) ** 2 <= 1] = True  # head
        mask[y + 20 : 288, max(x - 35, 0) : x + 35] = True  # body
        return mask

    size = (720, 1280)
    per_x, per_y = size[1] / 288, size[0] / 288

    def face_at(x: int, y: int) -> tuple[float, float, float, float]:
        return ((x - 9) * per_x, (y - 14) * per_y, (x + 9) * per_x, (y + 14) * per_y)

    carried = CarriedFace.anchor(face_at(60, 60), person(60, 60), size)
    for step in range(1, 30):
        assert carried is not None
        carried = carried.moved(person(60 + 4 * step, 60 + step), size)
    assert carried is not None
    expected = face_at(60 + 4 * 29, 60 + 29)
    assert abs(carried.box_xyxy[0] - expected[0]) < 0.3 * (expected[2] - expected[0])
    assert abs(carried.box_xyxy[1] - expected[1]) < 0.3 * (expected[3] - expected[1])
    assert carried.moved(np.zeros((288, 288), bool), size) is None
    assert CarriedFace.anchor(face_at(200, 60), person(60, 60), size) is None
