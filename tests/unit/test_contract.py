import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamer.contract import decode_mask, encode_mask, result_json
from streamer.frames import planes
from streamer.offline import lines
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, FrameResult, Track


def test_masks_survive_the_run_length_encoding():
    rng = np.random.default_rng(1)
    for mask in (rng.random((36, 64)) > 0.5, np.zeros((5, 7), bool), np.ones((1, 9), bool)):
        encoded = json.loads(json.dumps(encode_mask(mask)))
        assert encoded["size"] == list(mask.shape)
        assert np.array_equal(decode_mask(encoded), mask)


def test_result_json_separates_tracks_objects_and_other_people():
    labels = np.zeros((20, 30), np.uint8)
    labels[2:10, 2:10] = 1 | LABEL_PERSON
    labels[4:6, 2:10] |= LABEL_OBJECT
    labels[2:10, 15:20] = 2
    labels[15:, 25:] = LABEL_PERSON
    shirt = Track(7, "wonyoung", 0.61234, "tracked", (2, 2, 10, 10), (3, 2, 6, 5), 1, "shirt")
    other = Track(9, None, None, "lost", (15, 2, 20, 10), None, 2)
    result = FrameResult(123, 4.104, 30, 20, "lite", True, (shirt, other), labels)

    said = json.loads(json.dumps(result_json(result)))

    assert (said["v"], said["frame"], said["pts"], said["size"]) == (1, 123, 4.104, [30, 20])
    assert (said["engine"], said["identified"]) == ("lite", True)
    first, second = said["tracks"]
    assert (first["id"], first["name"], first["similarity"], first["state"]) == (7, "wonyoung", 0.6123, "tracked")
    assert (first["box"], first["face"]) == ([2.0, 2.0, 10.0, 10.0], [3.0, 2.0, 6.0, 5.0])
    assert decode_mask(first["mask"]).sum() == 64
    assert first["object"]["prompt"] == "shirt"
    assert decode_mask(first["object"]["mask"]).sum() == 16
    assert (second["name"], second["similarity"], second["face"], second["object"]) == (None, None, None, None)
    assert decode_mask(second["mask"]).sum() == 40
    assert decode_mask(said["people"]).sum() == 25
    again = lines.result(said)
    assert again.label_map is not None
    assert np.array_equal(again.label_map[15:], labels[15:])


def test_a_result_without_labels_has_empty_masks_of_the_right_size():
    track = Track(1, None, None, "lost", (0, 0, 4, 4), None, 1)
    said = result_json(FrameResult(0, 0.0, 8, 4, "none", False, (track,), None))
    assert decode_mask(said["tracks"][0]["mask"]).shape == (4, 8)
    assert not decode_mask(said["tracks"][0]["mask"]).any()
    assert "people" not in said


def test_planes_are_views_of_the_whole_picture_also_when_the_height_is_no_multiple_of_four():
    for height, width in ((6, 4), (8, 6), (358, 640)):
        i420 = np.zeros((height * 3 // 2, width), np.uint8)
        y, u, v = planes(i420)
        assert (y.shape, u.shape, v.shape) == ((height, width), (height // 2, width // 2), (height // 2, width // 2))
        y[...], u[...], v[...] = 1, 2, 3
        assert sorted({int(n) for n in np.unique(i420)}) == [1, 2, 3]
        assert not (i420 == 0).any()


def test_who_may_turn_out_to_be_a_member_is_known_from_a_sidecars_line():
    tracks = tuple(
        Track(number, None, None, "lost", (0, 0, 4, 4), None, place, undecided=number == 7)
        for place, number in enumerate((5, 7), 1)
    )
    result = FrameResult(0, 0.0, 8, 4, "lite", False, tracks, None)
    assert lines.result(lines.parsed(Path("x.jsonl"), 1, lines.line(result))) == result
    assert "undecided" not in result_json(result), "the public object is the contract's"
    sure = replace(result, tracks=tracks[:1])
    assert b"undecided" not in lines.line(sure)


def test_a_picture_between_two_shots_is_known_as_one_from_its_line():
    mixed = FrameResult(0, 0.0, 8, 4, "lite", False, (), None, between_shots=True)
    assert lines.result(lines.parsed(Path("x.jsonl"), 1, lines.line(mixed))) == mixed
    assert "between_shots" not in result_json(FrameResult(0, 0.0, 8, 4, "lite", False, (), None))
