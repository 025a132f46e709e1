"""A gallery that cannot be used: one clear line everywhere, the file untouched, and the doctor says how to recover."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamer.cli_doctor import check_gallery
from streamer.vision import gallery_database
from streamer.vision.gallery import Gallery
from streamer.vision.gallery_store import DATABASE
from tests.galleries import damage, new_photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "gallery"
    with Gallery(folder) as gallery:
        gallery.add_member("rei")
        for seed in range(15):
            gallery.add_photo("rei", new_photo(seed))
    return folder


@pytest.fixture
def until_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def newer(path: Path, _: ExitStack) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {len(gallery_database.MIGRATIONS) + 1}")
    database.close()


def damaged(path: Path, _: ExitStack) -> None:
    damage(path)


def cut_short(path: Path, _: ExitStack) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def no_database(path: Path, _: ExitStack) -> None:
    path.write_bytes(b"this is a text, and a rather long one" * 50)


def foreign(path: Path, _: ExitStack) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()


def locked(path: Path, until_end: ExitStack) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    until_end.callback(database.close)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")


STATES = [
    (newer, "newer version", "upgrade"),
    (damaged, "damaged", ".recover"),
    (cut_short, "damaged", ".recover"),
    (no_database, "damaged", ".recover"),
    (foreign, "another program", "move that file away"),
    (locked, "locked", "nothing is lost"),
]


@pytest.mark.parametrize(("make", "said", "action"), STATES, ids=[state[0].__name__ for state in STATES])
def test_the_doctor_says_how_to_recover(
    folder: Path,
    until_end: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, ExitStack], None],
    said: str,
    action: str,
) -> None:
    monkeypatch.setattr(gallery_database, "BUSY_SECONDS", 0.03)
    make(folder / DATABASE, until_end)
    before = (folder / DATABASE).read_bytes()
    check = check_gallery(folder)
    assert (check.level, check.name) == ("fail", "gallery")
    assert said in check.found
    assert action in check.action
    # Whoever opens it is told in one line as well, and nothing of it is written to.
    with pytest.raises(gallery_database.GalleryUnavailable, match=said) as caught:
        Gallery(folder)
    assert "\n" not in str(caught.value)
    assert (folder / DATABASE).read_bytes() == before
    assert len(list((folder / "photos").iterdir())) == 15


def test_a_sound_gallery_is_counted_and_a_missing_one_is_fine(folder: Path, tmp_path: Path) -> None:
    assert (check_gallery(folder).level, check_gallery(folder).found) == ("ok", "1 members, 15 photos")
    assert check_gallery(tmp_path / "nowhere").level == "ok"
    assert not (tmp_path / "nowhere").exists()


def test_photos_are_set_aside_when_the_database_was_moved_away(folder: Path) -> None:
    given = {path.read_bytes() for path in (folder / "photos").iterdir()}
    (folder / DATABASE).rename(folder / "away.sqlite3")
    for _ in range(2):
        with Gallery(folder) as gallery:
            assert gallery.members() == []
        assert {path.read_bytes() for path in (folder / "found-photos").iterdir()} == given
    assert list((folder / "photos").iterdir()) == list((folder / "thumbnails").iterdir()) == []
