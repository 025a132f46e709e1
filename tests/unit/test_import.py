"""Members in bulk: a folder for each, an archive out and in again, and archives that are not what they claim to be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import ConfigError, GalleryError, GalleryUnavailable, VisionUnavailable
from streamer.service import archive, export, importing
from streamer.service.archive import Archive
from streamer.service.enrolment import GivenPhoto, add_member, add_photos, each
from streamer.service.importing import Imported, Share
from streamer.service.settings import RosterMember, load
from streamer.vision.gallery import Gallery
from streamer.vision.known import PhotoFace
from streamer.vision.member import NewMember, NewRejection
from tests.squares import MODEL, Squares, picture

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Squares]:
    with Gallery(tmp_path / "gallery") as gallery:
        yield Squares(gallery)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Squares]:
    with Gallery(tmp_path / "elsewhere") as gallery:
        yield Squares(gallery)


def silent(_done: int, _total: int, _file: str) -> None:
    pass


async def run(services: Squares, shares: Sequence[Share], group: str | None = None) -> list[Imported]:
    return await importing.run(services, shares, source="cli", group=group, on_photo=silent)


def told(imported: Sequence[Imported]) -> dict[str, tuple[list[str], list[str]]]:
    return {
        one.name: ([kept.file for kept in one.enrolled.kept], [no.reason for no in one.enrolled.refused])
        for one in imported
    }


def make(folder: Path, **photos: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in photos.items():
        (folder / f"{name}.png").write_bytes(data)
    return folder


# Folders


async def test_a_folder_for_each_member(services: Squares, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    make(photos / "Rei", a=picture("red"), b=picture("red", side=90), c=b"no picture")
    make(photos / "장원영", a=picture("lime"))
    make(photos / "nul", a=picture("blue"))
    make(photos / "empty")
    make(photos / ".hidden", a=picture("blue"))
    (photos / "Rei" / "notes.txt").write_text("no photo")
    make(photos, loose=picture("blue"))
    steps: list[tuple[int, int]] = []
    shares = importing.folder_shares(photos)
    imported = await importing.run(
        services, shares, source="cli", on_photo=lambda done, total, _: steps.append((done, total))
    )
    result = told(imported)
    assert list(result) == ["Rei", "empty", "nul", "장원영", "-"]
    assert result["Rei"][0] == ["Rei/a.png", "Rei/b.png"]
    assert "not an image" in result["Rei"][1][0]
    assert result["장원영"] == (["장원영/a.png"], [])
    assert "reserved" in result["nul"][1][0]
    assert "no image files" in result["empty"][1][0]
    assert "lies in no member's folder" in result["-"][1][0]
    assert [member.name for member in services.gallery.members()] == ["Rei", "장원영"]
    assert [photo.file for photo in services.gallery.member("rei").photos] == ["a.png", "b.png"]
    assert {photo.source for photo in services.gallery.member("rei").photos} == {"cli"}
    assert steps[-1][1] == 7
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    # Again: nothing new, nothing twice.
    again = await run(services, importing.folder_shares(photos))
    assert all(kept.duplicate for one in again for kept in one.enrolled.kept)
    assert len(services.gallery.member("rei").photos) == 2


async def test_the_worked_example_names_six_members_and_their_folders(services: Squares, tmp_path: Path) -> None:
    roster = load(REPOSITORY / "configs" / "ive.yaml").members
    assert [(entry.name, entry.display_name, entry.group) for entry in roster] == [
        ("wonyoung", "Wonyoung", "IVE"),
        ("yujin", "Yujin", "IVE"),
        ("gaeul", "Gaeul", "IVE"),
        ("liz", "Liz", "IVE"),
        ("leeseo", "Leeseo", "IVE"),
        ("rei", "Rei", "IVE"),
    ]
    make(tmp_path / "photos" / "wonyoung", a=picture("red"))
    make(tmp_path / "photos" / "Rei", a=picture("lime"))
    result = told(await run(services, importing.folder_shares(tmp_path / "photos", roster)))
    assert result["wonyoung"][0] == ["wonyoung/a.png"]
    assert all("no such folder" in result[name][1][0] for name in ("yujin", "gaeul", "liz", "leeseo"))
    members = services.gallery.members()
    assert [(member.name, member.display_name, member.group) for member in members] == [
        ("rei", "Rei", "IVE"),
        ("wonyoung", "Wonyoung", "IVE"),
    ]


def test_the_worked_example_comes_with_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ive.yaml", "configs/ive.yaml"):
        assert load(Path(name)).members[0].name == "wonyoung"
    (tmp_path / "ive.yaml").write_text("members: [{name: mine}]")
    assert load(Path("ive.yaml")).members[0].name == "mine"
    with pytest.raises(ConfigError, match="nothing"):
        load(Path("nothing.yaml"))


async def test_a_roster_may_point_to_other_folders_and_fills_in_what_a_member_lacks(
    services: Squares, tmp_path: Path
) -> None:
    services.gallery.add_member("liz")
    make(tmp_path / "in" / "Kim Jiwon", a=picture("red"))
    roster = [RosterMember(name="liz", display_name="Liz", group="IVE", consent="by mail", folder="kim jiwon")]
    await run(services, importing.folder_shares(tmp_path / "in", roster))
    liz = services.gallery.member("liz")
    assert (liz.display_name, liz.group, liz.consent, len(liz.photos)) == ("Liz", "IVE", "by mail", 1)
    services.gallery.change_member("liz", display_name="Lizzie", group="solo")
    await run(services, importing.folder_shares(tmp_path / "in", roster))
    assert (services.gallery.member("liz").display_name, services.gallery.member("liz").group) == ("Lizzie", "solo")
    await run(services, importing.folder_shares(tmp_path / "in", roster), group="ive ")
    assert services.gallery.member("liz").group == "ive"
    with pytest.raises(ConfigError, match="twice"):
        importing.folder_shares(tmp_path / "in", [*roster, RosterMember(name="KIM JIWON")])


async def test_a_folder_whose_name_is_no_text(services: Squares, tmp_path: Path) -> None:
    odd = tmp_path / "in" / os.fsdecode(b"caf\xe9")
    make(odd, a=picture("red"))
    make(tmp_path / "in" / "rei", **{os.fsdecode(b"\xe9"): picture("red")})
    one, rei = await run(services, importing.folder_shares(tmp_path / "in"))
    assert "U+DCE9" in one.enrolled.refused[0].reason
    assert [kept.file for kept in rei.enrolled.kept] == ["rei/?.png"]
    assert [member.name for member in services.gallery.members()] == ["rei"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot read the folder"):
        importing.folder_shares(tmp_path / "missing")
    make(tmp_path / "flat", a=picture("red"))
    with pytest.raises(GalleryError, match="members add NAME"):
        importing.folder_shares(tmp_path / "flat")


async def test_a_member_is_stored_whole_or_not_at_all(services: Squares, tmp_path: Path) -> None:
    make(tmp_path / "in" / "a", a=picture("red"))
    make(tmp_path / "in" / "b", a=picture("lime"), b=picture("lime", side=90))
    services.fails_after = 2
    with pytest.raises(VisionUnavailable):
        await run(services, importing.folder_shares(tmp_path / "in"))
    assert [member.name for member in services.gallery.members()] == ["a"]
    services.fails_after = None
    await run(services, importing.folder_shares(tmp_path / "in"))
    assert len(services.gallery.member("b").photos) == 2


async def test_a_photo_of_100_mb_is_not_read(services: Squares, tmp_path: Path) -> None:
    make(tmp_path / "in" / "rei", good=picture("red"))
    with (tmp_path / "in" / "rei" / "huge.jpg").open("wb") as huge:
        huge.truncate(100_000_000)
    result = told(await run(services, importing.folder_shares(tmp_path / "in")))
    assert result["rei"][0] == ["rei/good.png"]
    assert "100.0 MB is above the limit of 25 MB" in result["rei"][1][0]


async def test_an_import_and_two_clients_at_once_lose_nothing(services: Squares, tmp_path: Path) -> None:
    sides = range(50, 58)
    make(tmp_path / "in" / "rei", **{f"p{side}": picture("red", side=side) for side in sides})
    services.gallery.add_member("rei", consent="said so")

    async def add(colour: str) -> None:
        for side in sides:
            photo = GivenPhoto(f"{colour}{side}.png", picture(colour, side=side))
            await add_photos(services, "rei", each([photo]), source="upload")

    await asyncio.gather(run(services, importing.folder_shares(tmp_path / "in")), add("lime"), add("blue"))
    member = services.gallery.member("rei")
    assert len(member.photos) == 3 * len(sides)
    assert member.consent == "said so"
    assert len(services.gallery.known(MODEL).owners) == 3 * len(sides)


# Archives


async def some_members(services: Squares) -> None:
    new = NewMember("Rei", "레이", "IVE", "by mail")
    await add_member(services, new, each([GivenPhoto("one.png", picture("red"))]), source="upload")
    two = each([GivenPhoto("two.png", picture("lime", "blue"))])
    pick = importing_pick(2)
    await add_member(services, NewMember("liz 😀", None, "IVE"), two, source="upload", pick=pick)
    services.gallery.add_member("nobody yet")
    crop = picture("yellow")
    face = PhotoFace((40.0, 40.0, 120.0, 120.0), 0.9, np.array([0.0, 0.6, 0.8], np.float32), 99.0, 0.0)
    services.gallery.add_rejected("rei", NewRejection(crop, 200, 200, "stream x, track 1", MODEL, face))


def importing_pick(number: int) -> Any:
    from streamer.vision.enrolment import FacePick

    return FacePick(number=number)


def exported(services: Squares, file: Path, group: str | None = None) -> Path:
    export.export_members(services.gallery, file, group)
    return file


async def read_in(services: Squares, file: Path, group: str | None = None) -> list[Imported]:
    with Archive(file) as opened:
        return await run(services, importing.archive_shares(opened), group)


async def test_an_archive_brings_everything_to_another_machine(
    services: Squares, elsewhere: Squares, tmp_path: Path
) -> None:
    await some_members(services)
    file = exported(services, tmp_path / "all.zip")
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("*.part")) == []
    await read_in(elsewhere, file)
    for before, after in zip(services.gallery.members(), elsewhere.gallery.members(), strict=True):
        about = [(one.name, one.display_name, one.group, one.consent) for one in (before, after)]
        assert about[0] == about[1]
        photos = [[(photo.file, photo.source, photo.face_xyxy) for photo in one.photos] for one in (before, after)]
        assert photos[0] == photos[1]
        faces = [[(face.source, face.face_xyxy) for face in one.rejected] for one in (before, after)]
        assert faces[0] == faces[1]
    assert len(elsewhere.gallery.members()) == 3
    # The face that was chosen, not the other one of that photo.
    known, there = services.gallery.known(MODEL), elsewhere.gallery.known(MODEL)
    assert known.names == there.names
    assert np.allclose(known.embeddings, there.embeddings, atol=1e-3)
    assert len(there.rejected_owners) == 1
    # A second time changes nothing.
    again = await read_in(elsewhere, file)
    assert all(kept.duplicate for one in again for kept in one.enrolled.kept)
    assert [len(member.photos) for member in elsewhere.gallery.members()] == [1, 0, 1]
    assert len(elsewhere.gallery.member("rei").rejected) == 1


async def test_one_group_is_exported_and_may_get_another_name(
    services: Squares, elsewhere: Squares, tmp_path: Path
) -> None:
    await some_members(services)
    file = exported(services, tmp_path / "ive.zip", "ive")
    await read_in(elsewhere, file, group="My group")
    assert [(member.name, member.group) for member in elsewhere.gallery.members()] == [
        ("liz 😀", "My group"),
        ("Rei", "My group"),
    ]
    with pytest.raises(GalleryError, match="nobody is in the group 'AOA'; there are IVE"):
        exported(services, tmp_path / "none.zip", "AOA")
    with pytest.raises(GalleryError, match="nobody is enrolled"):
        exported(Squares(Gallery(tmp_path / "empty")), tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()


async def test_an_export_that_fails_leaves_the_older_one(services: Squares, tmp_path: Path) -> None:
    await some_members(services)
    with pytest.raises(GalleryError, match="choose another place"):
        exported(services, tmp_path / "missing" / "a.zip")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(GalleryError, match="choose another place"):
        exported(services, tmp_path / "folder.zip")
    assert list(tmp_path.glob(".*.part")) == []
    file = exported(services, tmp_path / "a.zip")
    older = file.read_bytes()
    photo = services.gallery.member("rei").photos[0]
    (tmp_path / "gallery" / "photos" / f"{photo.id}.png").unlink()
    written = export.export_members(services.gallery, file)
    assert (written.photos, len(written.missing)) == (1, 1)
    assert "'one.png'" in written.missing[0]
    assert file.read_bytes() != older
    with Archive(file) as opened:
        assert sum(len(member.photos) for member in opened.manifest.members) == 1


def zipped(file: Path, manifest: Any, **entries: bytes) -> Path:
    """An archive with that manifest; names of entries with their first _ as a slash and their last as a dot."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("manifest.json", manifest if isinstance(manifest, (str, bytes)) else json.dumps(manifest))
        for name, data in entries.items():
            packed.writestr(name.replace("_", "/", 1).replace("_", "."), data)
    return file


def manifest(*members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"format": archive.FORMAT, "version": archive.VERSION, "members": list(members)} | changes


def member(name: str = "rei", *photos: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "photos": list(photos)} | more


PHOTO = {"path": "photos/a.png", "file": "a.png", "source": "upload", "face": [40, 40, 120, 120]}


def refuses(file: Path, *words: str) -> None:
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(GalleryError) as caught:
        Archive(file)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400, text
    for word in words:
        assert word in text, text
    assert before is None or file.read_bytes() == before


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    refuses(tmp_path / "missing.zip", "there is no file")
    (tmp_path / "text.zip").write_text("hello")
    refuses(tmp_path / "text.zip", "not a zip archive")
    (tmp_path / "empty.zip").touch()
    refuses(tmp_path / "empty.zip", "not a zip archive")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("photos/a.png", b"x")
    refuses(tmp_path / "other.zip", "no manifest.json", "import the folder")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        b"\xff\xfe",
        "[]",
        "null",
        "7",
        json.dumps({"format": "other", "version": 1, "members": []}),
        json.dumps({"format": archive.FORMAT, "version": 1}),
        json.dumps(manifest({"name": 7})),
        json.dumps(manifest(member("rei", {**PHOTO, "face": [1, 2, 3]}))),
        json.dumps(manifest(member("rei", {**PHOTO, "face": [10, 10, 5, 20]}))),
        json.dumps(manifest(member("rei", {**PHOTO, "path": "../../etc/passwd"}))),
        json.dumps(manifest(member("rei", {**PHOTO, "path": "photos/a.png\n"}))),
        json.dumps(manifest(member("x" * 301))),
        '{"format": "streamer-members", "version": 1, "members": [{"name": "a", "photos": [{"path": "photos/a.png", '
        '"file": "a", "source": "s", "face": [NaN, 0, Infinity, 1]}]}]}',
        "[" * 100_000,
    ],
)
def test_manifests_that_are_not_as_they_should_be(tmp_path: Path, content: str | bytes) -> None:
    refuses(zipped(tmp_path / "a.zip", content, photos_a_png=picture("red")), "manifest.json")


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    for version in (archive.VERSION + 1, "2", None, 10**400):
        refuses(zipped(tmp_path / "a.zip", manifest(version=version)), "version", "upgrade")


def test_entries_that_do_not_belong(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("../evil.png", "/etc/passwd", "photos/../../x.png", "C:\\x.png", "photos/a.png/b.png", "photos/ä.png", "x")
    ):
        file = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("manifest.json", json.dumps(manifest()))
            packed.writestr(name, b"x")
        refuses(file, "does not belong")
    double = tmp_path / "double.zip"
    with zipfile.ZipFile(double, "w") as packed:
        packed.writestr("manifest.json", json.dumps(manifest()))
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("manifest.json", json.dumps(manifest(member("eve"))))
    refuses(double, "does not belong")


def test_what_the_manifest_names_is_there_and_once(tmp_path: Path) -> None:
    refuses(zipped(tmp_path / "a.zip", manifest(member("rei", PHOTO))), "lacks photos/a.png")
    twice = manifest(member("rei", PHOTO), member("liz", PHOTO))
    refuses(zipped(tmp_path / "b.zip", twice, photos_a_png=picture("red")), "twice")


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of less than 100 kB with a photo of 60 MB in it."""
    file = tmp_path_factory.mktemp("bomb") / "bomb.zip"
    return zipped(file, manifest(member("rei", PHOTO)), photos_a_png=bytes(60_000_000))


def test_a_zip_bomb_is_refused_before_it_unpacks(bomb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bomb.stat().st_size < 100_000
    refuses(bomb, "unpacks to 60 MB")
    monkeypatch.setattr(archive, "MAX_ENTRIES", 100)
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w") as packed:
        packed.writestr("manifest.json", json.dumps(manifest()))
        for number in range(archive.MAX_ENTRIES):
            packed.writestr(f"photos/{number}.png", b"")
    refuses(many, "entries")
    large = zipped(tmp_path / "large.zip", b" " * (archive.MAX_MANIFEST_BYTES + 1))
    refuses(large, "unpacks to")


async def test_a_bomb_that_lies_about_its_size_is_never_unpacked(bomb: Path, services: Squares, tmp_path: Path) -> None:
    """Both headers claim 100 bytes for what unpacks to 60 MB."""
    file, content = tmp_path / "liar.zip", bytearray(bomb.read_bytes())
    size = struct.pack("<I", 60_000_000)
    at = content.find(size)
    assert at > 0
    while at > 0:
        content[at : at + 4] = struct.pack("<I", 100)
        at = content.find(size, at)
    file.write_bytes(content)
    refuses(file, "damaged")


def test_archives_cut_short_and_bit_rot(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(40_000)
    whole = zipped(tmp_path / "a.zip", manifest(member("rei", PHOTO)), photos_a_png=noise).read_bytes()
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        refuses(tmp_path / "cut.zip", "cut short")
    rotten = bytearray(whole)
    at = whole.find(noise[1000:1020])
    rotten[at] ^= 1
    (tmp_path / "rot.zip").write_bytes(rotten)
    refuses(tmp_path / "rot.zip", "damaged")
    # Whatever is wrong with the bytes, it is one error and no other.
    random = np.random.default_rng(2)
    for _ in range(150):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            broken[place] = int(random.integers(256))
        tail = random.integers(len(whole) - 300, len(whole), 2)
        broken[tail[0]] ^= 0x5A
        (tmp_path / "broken.zip").write_bytes(broken)
        with contextlib.suppress(GalleryError):
            Archive(tmp_path / "broken.zip").close()


def test_encrypted_entries_and_unusual_packing(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("manifest.json", json.dumps(manifest()))
    refuses(file, "unusual")
    content = bytearray(zipped(file, manifest()).read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= 1
    file.write_bytes(content)
    refuses(file, "encrypted")


async def test_hostile_content_costs_only_its_own_member(services: Squares, tmp_path: Path) -> None:
    photos = [
        {**PHOTO, "path": f"photos/{name}.png", "file": name} for name in ("ok", "text", "blank", "..\\..\\x\n\x1b[2J")
    ]
    photos[3]["path"] = "photos/odd.png"
    members = [
        member("../../evil", {**PHOTO, "path": "photos/evil.png"}),
        member("unknown"),
        member("n" * 300),
        member("rei", *photos, display_name="x" * 101),
        member("liz", *photos[:0], {**PHOTO, "path": "photos/liz.png"}, group="IVE", surprise="of a later program"),
    ]
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("manifest.json", json.dumps(manifest(*members)))
        for name, data in {
            "evil": picture("red"),
            "ok": picture("red"),
            "text": b"hello",
            "blank": picture(),
            "odd": picture("red", side=90),
            "liz": picture("lime"),
        }.items():
            packed.writestr(f"photos/{name}.png", data)
    result = told(await read_in(services, file))
    assert "slash" in result["../../evil"][1][0]
    assert "reserved" in result["unknown"][1][0]
    assert "300 characters" in result["n" * 64][1][0]
    assert "display name" in result["rei"][1][-1]
    assert result["liz"][0] == ["a.png"]
    assert [one.name for one in services.gallery.members()] == ["liz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "gallery"]


async def test_a_gallery_that_cannot_be_used_ends_the_import(services: Squares, tmp_path: Path) -> None:
    await some_members(services)
    file = exported(services, tmp_path / "a.zip")
    services.gallery.close()
    with pytest.raises(GalleryUnavailable, match="closed"):
        await read_in(services, file)


def test_an_archive_of_endless_entries_takes_no_memory(tmp_path: Path) -> None:
    """Its directory alone, which is read whole before anything of it can be counted, would fill the machine."""
    file, count = tmp_path / "entries.zip", 200_000
    name = b"photos/"
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[20, 0, 20, 0], *[0] * 4, 0, 0, 0, len(name), *[0] * 4, 0, 0)
    with file.open("wb") as written:
        written.writelines([entry + name] * count)
        size = written.tell()
        written.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 0, 0))
    tracemalloc.start()
    try:
        with pytest.raises(GalleryError, match="its directory takes 11 MB, above 6; export in groups") as error:
            Archive(file)
        assert str(file) in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
