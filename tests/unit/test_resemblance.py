"""What is said about members that resemble each other, and about photos that do not fit."""

from __future__ import annotations

import numpy as np

from streamer.vision.known import Known
from streamer.vision.member import Member, Photo
from streamer.vision.resemblance import notices

DIMENSION = 64


def people(spread: float, *shares: float, photos: int = 4, seed: int = 3) -> list[np.ndarray]:
    """Faces of one person for each of `shares`: how much of the face all of them have in common."""
    random = np.random.default_rng(seed)
    # Orthogonal directions, so that similarities are what the shares say.
    basis = np.linalg.qr(random.normal(size=(DIMENSION, DIMENSION)))[0]
    common, rest = basis[0], iter(basis[1:])
    faces = []
    for share in shares:
        person = np.sqrt(share) * common + np.sqrt(1 - share) * next(rest)
        rows = np.stack([np.sqrt(1 - spread) * person + np.sqrt(spread) * next(rest) for _ in range(photos)])
        faces.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return faces


def said(model_id: str, **faces: np.ndarray) -> dict[str, list[str]]:
    members = [
        Member(name, name, None, None, "", tuple(photo(f"{name}{n}.jpg", model_id) for n in range(len(rows))))
        for name, rows in faces.items()
    ]
    owners = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(faces.values())])
    return notices(members, Known(model_id, tuple(faces), owners, np.concatenate(list(faces.values()))))


def photo(file: str, model_id: str) -> Photo:
    return Photo(file, file, "upload", 9, 9, 9, (0.0, 0.0, 9.0, 9.0), None, "", (model_id,))


def test_people_who_differ_need_no_word() -> None:
    a, b, c = people(0.25, 0.0, 0.0, 0.0)
    assert said("mobilefacenet_192-1", a=a, b=b, c=c) == {}
    assert notices([], Known.nobody()) == {}


def test_members_that_cannot_be_told_apart_name_the_better_pack() -> None:
    rei, liz, gaeul = people(0.25, 0.9, 0.9, 0.1)  # 0.675 between the two, 0.75 within each
    found = said("mobilefacenet_192-1", rei=rei, liz=liz, gaeul=gaeul)
    assert list(found) == ["rei", "liz"]
    assert found["rei"] == found["liz"]
    assert "'rei' and 'liz' can hardly be told apart (similarity 0.6" in found["rei"][0]
    assert "buffalo_l" in found["rei"][0]
    assert "buffalo_l" not in said("w600k_r50-1", rei=rei, liz=liz)["rei"][0]


def test_near_but_separate_members_are_left_in_peace() -> None:
    rei, liz = people(0.25, 0.6, 0.6)  # 0.45 between, 0.75 within
    assert said("mobilefacenet_192-1", rei=rei, liz=liz) == {}


def test_photos_of_one_afternoon_do_not_prove_that_people_differ() -> None:
    rei, liz = people(0.02, 0.8, 0.8)  # 0.78 between, 0.98 within
    assert "told apart" in said("mobilefacenet_192-1", rei=rei, liz=liz)["rei"][0]
    one, other = people(0.02, 0.8, 0.8, photos=1)
    assert "told apart" in said("mobilefacenet_192-1", rei=one, liz=other)["liz"][0]


def test_a_photo_among_the_wrong_members() -> None:
    a, b = people(0.2, 0.0, 0.0, photos=5)
    found = said("mobilefacenet_192-1", a=np.concatenate([a, b[:1]]), b=b[1:])
    assert list(found) == ["a"]
    assert found["a"] == [
        "the photo 'a5.jpg' fits 'b' better (similarity 0.80) than the other photos of 'a' (0.00): check whom it shows"
    ]


def test_a_photo_of_somebody_unknown() -> None:
    a, b, stranger = people(0.2, 0.0, 0.0, 0.0)
    found = said("mobilefacenet_192-1", a=np.concatenate([stranger[:1], a]), b=b)
    assert list(found) == ["a"]
    assert "'a0.jpg' does not fit the other photos of 'a'" in found["a"][0]


def test_two_photos_of_two_people() -> None:
    a, b = people(0.2, 0.0, 0.0)
    found = said("mobilefacenet_192-1", a=np.concatenate([a[:1], b[:1]]))
    assert found == {
        "a": ["the photos 'a0.jpg' and 'a1.jpg' do not look like one person (similarity 0.00): check them"]
    }


def test_a_member_is_not_buried_in_notices() -> None:
    everybody = people(0.05, *[0.95] * 15, photos=2)
    found = said("mobilefacenet_192-1", **{f"m{n}": rows for n, rows in enumerate(everybody)})
    assert max(len(texts) for texts in found.values()) <= 10
