"""The gallery on real SQLite files: names, photos, deletion for real, several writers, files that cannot be used."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import (
    GalleryError,
    GalleryUnavailable,
    GalleryUnwritable,
    MemberExists,
    MemberUnknown,
    PhotoRefused,
)
from streamer.vision import gallery_database, member_name
from streamer.vision.gallery import Gallery
from streamer.vision.gallery_store import DATABASE
from streamer.vision.known import PhotoFace
from tests.galleries import MODEL, face, files_of, new_photo, unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gallery"


@pytest.fixture
def gallery(folder: Path) -> Iterator[Gallery]:
    with Gallery(folder) as opened:
        yield opened


def test_members_and_photos_survive_a_restart(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("Wonyoung", group="IVE", consent="asked 2026")
    photo = gallery.add_photo("wonyoung", new_photo(1))
    gallery.close()
    with Gallery(folder) as again:
        member = again.member("WONYOUNG")
        assert (member.name, member.display_name, member.group, member.consent) == (
            "Wonyoung",
            "Wonyoung",
            "IVE",
            "asked 2026",
        )
        assert member.photos == (photo,)
        assert photo.models == (MODEL,)
        assert photo.face_xyxy == (1.0, 2.0, 81.0, 102.0)
        assert again.thumbnail("wonyoung", photo.id) == b"thumbnail 1"
        assert again.photo_bytes(photo.id) == b"photo 1"


def test_known_has_every_embedding_of_one_model(gallery: Gallery) -> None:
    for name in ("yujin", "rei", "nobody yet"):
        gallery.add_member(name)
    gallery.add_photo("yujin", new_photo(1))
    gallery.add_photo("rei", new_photo(2))
    second = gallery.add_photo("yujin", new_photo(3))
    known = gallery.known(MODEL)
    assert known.names == ("rei", "yujin")
    assert known.owners.dtype == np.int64
    assert known.embeddings.dtype == np.float32
    assert {(known.names[owner], row.tobytes()) for owner, row in zip(known.owners, known.embeddings, strict=True)} == {
        ("rei", unit(2).tobytes()),
        ("yujin", unit(1).tobytes()),
        ("yujin", unit(3).tobytes()),
    }
    assert gallery.known("model-b").names == ()
    assert len(gallery.photos_without("model-b")) == 3
    gallery.add_embedding(second.id, "model-b", face(9))
    assert gallery.known("model-b").names == ("yujin",)
    assert second.id not in [photo.id for photo in gallery.photos_without("model-b")]
    assert gallery.member("yujin").photos[1].models == (MODEL, "model-b")


def test_the_same_photo_is_stored_once_a_member(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    gallery.add_member("b")
    first = gallery.add_photo("a", new_photo(1))
    assert gallery.add_photo("a", new_photo(1)) == first
    assert gallery.find_photo("a", b"photo 1") == first
    assert gallery.find_photo("b", b"photo 1") is None
    gallery.add_photo("b", new_photo(1))
    assert len(files_of(folder)) == 4


def test_unusable_embeddings_are_refused(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    for embedding in (np.zeros(16, np.float32), np.full(16, np.nan, np.float32), unit(1) * 2):
        bad = PhotoFace((0.0, 0.0, 50.0, 50.0), 0.9, embedding, 100.0, 0.0)
        broken = new_photo(1)
        object.__setattr__(broken, "face", bad)
        with pytest.raises(PhotoRefused):
            gallery.add_photo("a", broken)
    assert files_of(folder) == []


def test_removing_a_member_leaves_nothing_behind(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("Kept")
    gallery.add_member("Secretname", consent="a private remark")
    kept = gallery.add_photo("Kept", new_photo(1))
    gallery.add_photo("Secretname", new_photo(2, b"private picture"))
    gallery.add_photo("Secretname", new_photo(3))
    gallery.remove_member("secretname")
    assert files_of(folder) == [f"{kept.id}.jpg", f"{kept.id}.jpg"]
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for secret in (b"Secretname", b"private remark", b"private picture", unit(2).tobytes(), unit(3).tobytes()):
            assert secret not in content, f"{secret!r} is still in {path.name}"
    assert gallery.known(MODEL).names == ("Kept",)
    with pytest.raises(MemberUnknown):
        gallery.member("Secretname")


def test_removing_a_photo_leaves_the_others(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    gallery.add_member("b")
    first, second = gallery.add_photo("a", new_photo(1)), gallery.add_photo("a", new_photo(2))
    with pytest.raises(MemberUnknown):
        gallery.remove_photo("b", first.id)
    gallery.remove_photo("a", first.id)
    assert gallery.member("a").photos == (second,)
    assert unit(1).tobytes() not in (folder / DATABASE).read_bytes()
    with pytest.raises(MemberUnknown):
        gallery.thumbnail("a", first.id)


def test_a_thumbnail_that_somebody_deleted(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    photo = gallery.add_photo("a", new_photo(1))
    (folder / "thumbnails" / f"{photo.id}.jpg").unlink()
    with pytest.raises(MemberUnknown, match="gone"):
        gallery.thumbnail("a", photo.id)
    gallery.remove_member("a")


NAMES = [
    "wonyoung",
    "Müller-Lüdenscheidt",
    "장원영",
    "วันยอง",
    "😀",
    "👨‍👩‍👧",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "O'Neil Jr.",
    "a%2Fb?#",
    "x" * 64,
    "7",
]
NO_NAMES = ["", "   ", "a/b", "a\\b", ".", "..", ".hidden", "a\nb", "a\x00b", "x" * 65, "x" * 300, "\u200b", "\u200d"]
NO_NAMES += ["a\u202eb", "\ud800", "all", "Unknown", "NUL", "com1", "\ufeff", "\ue000"]


def test_names_of_any_script(gallery: Gallery) -> None:
    for name in NAMES:
        assert gallery.add_member(f"  {name} ").name == name
        assert gallery.member(name).name == name
    assert {member.name for member in gallery.members()} == set(NAMES)


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(GalleryError) as caught:
        member_name.clean(name)
    message = str(caught.value)
    assert len(message) < 200
    assert message.isprintable()


def test_one_member_whatever_the_spelling(gallery: Gallery) -> None:
    gallery.add_member("José  Pérez")
    for same in ("JOSÉ PÉREZ", "jose\u0301 pe\u0301rez", "Ｊｏｓé Pérez"):
        with pytest.raises(MemberExists, match="José"):
            gallery.add_member(same)
        assert gallery.member(same).name == "José  Pérez"
    assert member_name.key("STRASSE") == member_name.key("straße")


def test_unknown_members_get_a_hint(gallery: Gallery) -> None:
    with pytest.raises(MemberUnknown, match="empty"):
        gallery.member("rei")
    gallery.add_member("rei")
    with pytest.raises(MemberUnknown, match="did you mean 'rei'"):
        gallery.remove_member("rie")
    with pytest.raises(MemberUnknown, match="known: rei"):
        gallery.add_photo("xyz" * 200, new_photo(1))
    with pytest.raises(MemberUnknown):
        gallery.member("\udcff")


def test_changed_sees_every_commit_once(gallery: Gallery, folder: Path) -> None:
    assert not gallery.changed()
    gallery.add_member("a")
    assert gallery.changed()
    assert not gallery.changed()
    gallery.members()
    assert not gallery.changed()
    with Gallery(folder) as other:
        assert not other.changed()
        other.remove_member("a")
        assert other.changed()
    assert gallery.changed()
    assert gallery.members() == []


def test_changed_does_not_wait_for_a_writer(gallery: Gallery, folder: Path) -> None:
    blocker = sqlite3.connect(folder / DATABASE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        assert not gallery.changed()
        assert gallery.members() == []
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


def open_new(folder: Path, barrier: object) -> None:
    """Body of a process of the test below."""
    barrier.wait(60)  # type: ignore[attr-defined]
    Gallery(folder).close()


def test_two_processes_may_make_the_gallery_at_once(folder: Path) -> None:
    barrier = threading.Barrier(6)
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            open_new(folder, barrier)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_two_clients_race_for_one_name(folder: Path) -> None:
    with Gallery(folder) as first, Gallery(folder) as second:
        outcomes: list[str] = []
        barrier = threading.Barrier(2)

        def attempt(gallery: Gallery, name: str) -> None:
            barrier.wait()
            try:
                gallery.add_member(name)
                outcomes.append("made")
            except MemberExists:
                outcomes.append("exists")

        threads = [threading.Thread(target=attempt, args=pair) for pair in ((first, "Liz"), (second, "LIZ"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["exists", "made"]
        assert len(first.members()) == 1


async def test_waiting_for_a_writer_leaves_the_event_loop_free(gallery: Gallery, folder: Path) -> None:
    blocker = sqlite3.connect(folder / DATABASE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(asyncio.to_thread(gallery.add_member, "a"))
    await asyncio.sleep(0.05)
    assert not task.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert (await task).name == "a"


def test_a_lock_that_stays_is_an_error(gallery: Gallery, folder: Path) -> None:
    gallery._store._db.execute("PRAGMA busy_timeout = 50")
    blocker = sqlite3.connect(folder / DATABASE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(GalleryUnavailable, match="locked"):
        gallery.add_member("a")
    blocker.execute("ROLLBACK")
    blocker.close()
    gallery.add_member("a")


def test_files_without_a_row_are_swept(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    kept = gallery.add_photo("a", new_photo(1))
    gallery.close()
    (folder / "photos" / "0123456789abcdef.jpg").write_bytes(b"left by a crash")
    (folder / "thumbnails" / "0123456789abcdef.jpg").write_bytes(b"left by a crash")
    with Gallery(folder):
        assert files_of(folder) == [f"{kept.id}.jpg", f"{kept.id}.jpg"]


def test_a_photo_that_cannot_be_stored_leaves_no_files(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    gallery._store._db.execute(
        "CREATE TRIGGER no BEFORE INSERT ON embeddings BEGIN SELECT RAISE(FAIL, 'disk trouble'); END"
    )
    with pytest.raises(GalleryUnavailable, match="disk trouble"):
        gallery.add_photo("a", new_photo(1))
    assert files_of(folder) == []
    assert gallery.member("a").photos == ()


def test_files_are_for_their_owner_alone(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    gallery.add_photo("a", new_photo(1))
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_closed_twice_and_used_afterwards(folder: Path) -> None:
    gallery = Gallery(folder)
    gallery.close()
    gallery.close()
    for call in (gallery.members, gallery.changed):
        with pytest.raises(GalleryUnavailable, match="closed"):
            call()


def refuses_untouched(folder: Path, match: str) -> None:
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(GalleryUnavailable, match=match) as caught:
        Gallery(folder)
    assert "\n" not in str(caught.value)
    assert (folder / DATABASE).read_bytes() == before


def test_a_newer_version_is_left_alone(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    gallery._store._db.execute(f"PRAGMA user_version = {len(gallery_database.MIGRATIONS) + 1}")
    gallery.close()
    refuses_untouched(folder, "newer version")


def test_a_damaged_gallery_is_left_alone(gallery: Gallery, folder: Path) -> None:
    gallery.add_member("a")
    for seed in range(15):
        gallery.add_photo("a", new_photo(seed))
    gallery.close()
    path = folder / DATABASE
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 5] = os.urandom(4096 * 4)
    path.write_bytes(content)
    refuses_untouched(folder, "damaged")


def test_what_is_no_gallery_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / DATABASE).write_bytes(b"this is a text, and a rather long one" * 50)
    refuses_untouched(folder, "damaged")
    (folder / DATABASE).unlink()
    foreign = sqlite3.connect(folder / DATABASE)
    foreign.execute("CREATE TABLE bookmarks (url TEXT)")
    foreign.close()
    refuses_untouched(folder, "another program")


def test_an_empty_file_becomes_a_gallery(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / DATABASE).touch()
    with Gallery(folder) as gallery:
        assert gallery.members() == []


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GalleryUnwritable, match="file"):
        Gallery(tmp_path / "file" / "gallery")
    with pytest.raises(GalleryUnwritable, match="file"):
        Gallery(tmp_path / "file")
