"""Members on the real service: the real worker reads real photos, the command line works beside it, streams follow."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFilter

from streamer.ingest.demo_cast import ASTRONAUT, CARD_PARTY, demo_members
from streamer.service.app import create_app
from streamer.service.services import Services
from streamer.service.settings import Settings
from streamer.vision.gallery import Gallery
from streamer.vision.member import NewRejection

pytestmark = pytest.mark.models

PATIENCE_SECONDS = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


class Running:
    """A service in this process, with a client."""

    def __init__(self, services: Services, http: httpx.AsyncClient) -> None:
        self.services = services
        self.http = http


@pytest.fixture
async def service(model_data_dir: Path) -> AsyncIterator[Running]:
    app = create_app(Settings(data_dir=model_data_dir))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=PATIENCE_SECONDS) as http,
    ):
        yield Running(app.state.services, http)


async def streamer(data_dir: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command in a process of its own; exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamer",
        *arguments,
        cwd=REPOSITORY,
        env={**os.environ, "STREAMER_DATA_DIR": str(data_dir)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.1)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def parts(**files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (name, data)) for name, data in files.items()]


def astronaut() -> Image.Image:
    return Image.open(ASTRONAUT.path).convert("RGB")


async def test_real_photos_are_told_apart(service: Running) -> None:
    for name, photos in demo_members().items():
        made = await service.http.post("/api/members", data={"name": name}, files=parts(a=photos[0]))
        assert made.status_code == 201, made.text
        assert made.json()["kept"][0]["remark"] is None
    model_id = service.services.vision.state.model_id
    assert model_id is not None
    known = service.services.gallery.known(model_id)
    assert known.names == tuple(sorted(demo_members()))
    assert np.allclose(np.linalg.norm(known.embeddings, axis=1), 1, atol=1e-3)
    similarities = known.embeddings @ known.embeddings.T
    assert similarities[~np.eye(len(known.names), dtype=bool)].max() < 0.5
    # The same person again, as another's photo: kept, and said.
    other = encoded(astronaut().resize((400, 400)))
    added = await service.http.post("/api/members/ben/photos", files=parts(wrong=other))
    assert "'eileen'" in added.json()["kept"][0]["remark"]


async def test_the_same_face_in_every_kind_of_file(service: Running) -> None:
    face = astronaut()
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.asarray(face.convert("L"), np.uint16) * 257
    alpha = face.convert("RGBA")
    alpha.putalpha(Image.new("L", face.size, 255))
    files = {
        "plain.jpg": encoded(face, quality=95),
        "lying.jpg": encoded(face.transpose(Image.Transpose.ROTATE_90), quality=95, exif=exif),
        "cmyk.jpg": encoded(face.convert("CMYK"), quality=95),
        "alpha.png": encoded(alpha, "PNG"),
        "palette.gif": encoded(face, "GIF"),
        "sixteen.png": encoded(Image.fromarray(grey), "PNG"),
        "moving.webp": encoded(face, "WEBP", save_all=True, append_images=[Image.new("RGB", face.size)], quality=90),
        "huge.jpg": encoded(face.resize((4000, 4000))),
    }
    made = await service.http.post("/api/members", data={"name": "eileen"}, files=parts(**files))
    assert made.status_code == 201, made.text
    assert made.json()["refused"] == []
    known = service.services.gallery.known(service.services.vision.state.model_id or "")
    assert len(known.owners) == len(files)
    similarities = known.embeddings @ known.embeddings[0]
    assert dict(zip(files, similarities.round(2).tolist(), strict=True)) == pytest.approx(
        dict.fromkeys(files, 1.0), abs=0.25
    )
    boxes = {entry["file"]: entry["photo"]["face"] for entry in made.json()["kept"]}
    assert boxes["lying.jpg"] == pytest.approx(boxes["plain.jpg"], abs=3)
    assert boxes["huge.jpg"] == pytest.approx([value * 4000 / 512 for value in boxes["plain.jpg"]], abs=60)


async def test_photos_that_do_not_show_one_good_face(service: Running) -> None:
    party = Image.open(CARD_PARTY.path).convert("RGB")
    face = astronaut()
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8))
    files = {
        "party.jpg": encoded(party),
        "noise.png": encoded(noise, "PNG"),
        "smear.jpg": encoded(face.filter(ImageFilter.GaussianBlur(6)), quality=95),
        "small.png": encoded(face.resize((90, 90)), "PNG"),
        "broken.jpg": encoded(face)[:4000],
        "notes.txt": b"not a picture",
    }
    answer = await service.http.post("/api/members", data={"name": "eileen"}, files=parts(**files))
    assert answer.status_code == 422
    reasons = {entry["file"]: entry["reason"] for entry in answer.json()["refused"]}
    assert "6 faces" in reasons["party.jpg"]
    assert "no face" in reasons["noise.png"]
    assert "blurred" in reasons["smear.jpg"]
    assert "pixels high" in reasons["small.png"]
    assert "damaged" in reasons["broken.jpg"]
    assert "not an image" in reasons["notes.txt"]
    assert (await service.http.get("/api/members")).json() == []
    chosen = await service.http.post(
        "/api/members", data={"name": "ben", "face": "530,340"}, files=parts(party=files["party.jpg"])
    )
    x0, y0, x1, y1 = chosen.json()["kept"][0]["photo"]["face"]
    assert x0 < 530 < x1
    assert y0 < 340 < y1


async def test_the_command_line_beside_a_running_service(
    service: Running, model_data_dir: Path, tmp_path: Path
) -> None:
    photos = demo_members()
    folder = tmp_path / "eileen"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photos["eileen"][0])
    (folder / "readme.txt").write_text("not taken from a folder")
    status, out, err = await streamer(model_data_dir, "members", "add", "eileen", str(folder), str(CARD_PARTY.path))
    assert status == 0, err
    assert out.splitlines()[0].split("\t")[1] == "kept"
    assert "6 faces" in out.splitlines()[1]

    made = await service.http.post("/api/streams", json={"source": {"kind": "demo"}, "member": "eileen"})
    assert made.status_code == 201, made.text
    stream = service.services.streams.get(made.json()["id"])

    def named() -> bool:
        return any(track["name"] == "eileen" for track in stream.info()["tracks"])

    await until(named)
    status, out, err = await streamer(model_data_dir, "members", "remove", "EILEEN")
    assert (status, out) == (0, "deleted 'eileen' with 1 photo\n"), err
    await until(lambda: bool(stream.info()["tracks"]) and not named())
    assert (await service.http.get("/api/members")).json() == []


async def test_the_command_line_without_a_service(model_data_dir: Path, tmp_path: Path) -> None:
    photo = tmp_path / "eileen.png"
    photo.write_bytes(encoded(astronaut(), "PNG"))
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing to see")
    missing, nobody = str(tmp_path / "missing.jpg"), str(notes)
    add = ("members", "add", "eileen")
    results = await asyncio.gather(
        streamer(model_data_dir, *add, str(photo), missing), streamer(model_data_dir, "members", "list", "--json")
    )
    assert results[0][0] == 0, results[0][2]
    assert results[1][0] == 0
    assert "no such file" in results[0][1]
    status, out, _ = await streamer(model_data_dir, *add, str(photo))
    assert (status, out.count("was there already")) == (0, 1)
    status, _, err = await streamer(model_data_dir, *add, missing, nobody)
    assert status == 1
    assert err.startswith("streamer: ")
    assert len(err.splitlines()) == 1
    assert (await streamer(model_data_dir, *add))[0] == 2
    status, _, err = await streamer(model_data_dir, "members", "remove", "elieen")
    assert (status, "did you mean 'eileen'" in err) == (1, True)
    with Gallery(model_data_dir / "gallery") as gallery:
        assert [photo.file for photo in gallery.member("eileen").photos] == ["eileen.png"]


def folders(where: Path) -> Path:
    """Photos of the demo's people, a folder each."""
    for name, photos in demo_members().items():
        (where / name).mkdir(parents=True)
        for number, data in enumerate(photos):
            (where / name / f"{number}.jpg").write_bytes(data)
    return where


def mixed(where: Path, **photos: Path) -> Path:
    """A folder for each name with the copy of one photo."""
    for name, photo in photos.items():
        (where / name).mkdir(parents=True)
        (where / name / "mixed up.jpg").write_bytes(photo.read_bytes())
    return where


async def test_folders_are_imported_and_moved_to_another_machine(model_data_dir: Path, tmp_path: Path) -> None:
    photos = folders(tmp_path / "photos")
    (photos / "eileen" / "smear.jpg").write_bytes(encoded(astronaut().filter(ImageFilter.GaussianBlur(6)), quality=95))
    (photos / "aux").mkdir()
    (photos / "aux" / "a.jpg").write_bytes(photos.joinpath("ben", "0.jpg").read_bytes())
    status, out, err = await streamer(model_data_dir, "members", "import", str(photos), "--group", "Demo")
    assert status == 0, err
    rows = [line.split("\t") for line in out.splitlines()]
    results = {row[1] or row[0]: (row[2], row[3]) for row in rows}
    assert results["ben/0.jpg"] == ("kept", "")
    assert "blurred" in results["eileen/smear.jpg"][1]
    assert "reserved" in results["aux"][1]
    assert err.splitlines()[-1] == "kept 4 photos of 4 members, refused 2"
    assert "\x1b" not in out + err, "no progress bar in a pipe"

    archive = tmp_path / "all.zip"
    status, out, err = await streamer(model_data_dir, "members", "export", str(archive), "--group", "demo")
    assert (status, out) == (0, f"wrote 4 members with 4 photos to {archive}\n"), err
    other = tmp_path / "other"
    other.mkdir()
    (other / "models").symlink_to((model_data_dir / "models").resolve(), target_is_directory=True)
    status, out, err = await streamer(other, "members", "import", str(archive))
    assert status == 0, err
    with Gallery(model_data_dir / "gallery") as before, Gallery(other / "gallery") as after:
        assert [(member.name, member.group) for member in after.members()] == [
            (member.name, "Demo") for member in before.members()
        ]
        (model_id,) = {model for member in after.members() for photo in member.photos for model in photo.models}
        assert np.allclose(before.known(model_id).embeddings, after.known(model_id).embeddings, atol=1e-5)

    status, out, err = await streamer(other, "members", "edit", "BEN", "--group", "", "--display-name", "Ben T.")
    assert (status, out.split("\t")[:3]) == (0, ["ben (Ben T.)", "", "1"]), err
    assert (await streamer(other, "members", "edit", "ben"))[0] == 2
    # A photo of somebody else among one's own is told of, by the list as well.
    wrong = photos / "eileen" / "0.jpg"
    status, _, err = await streamer(other, "members", "import", str(mixed(tmp_path / "mixed", ben=wrong)))
    assert status == 0, err
    status, out, err = await streamer(other, "members", "list", "--json")
    notices = {member["name"]: member["notices"] for member in json.loads(out)}
    assert any("look like one person" in text for text in notices["ben"]), notices
    assert "note: " in (await streamer(other, "members", "list"))[2]

    archive.write_bytes(archive.read_bytes()[:5000])
    status, _, err = await streamer(other, "members", "import", str(archive))
    assert (status, len(err.splitlines())) == (1, 1)
    assert "cut short" in err
    status, _, err = await streamer(other, "members", "export", str(tmp_path / "no" / "where.zip"))
    assert (status, len(err.splitlines())) == (1, 1)
    assert (await streamer(other, "members", "import"))[0] == 2


def test_a_terminal_gets_a_table_and_a_progress_bar(model_data_dir: Path, tmp_path: Path) -> None:
    photos = folders(tmp_path / "photos")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "streamer", "members", "import", str(photos)]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "STREAMER_DATA_DIR": str(model_data_dir), "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        with contextlib.suppress(OSError):  # the terminal's end, as Linux tells it
            while part := os.read(master, 4096):
                shown += part
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    text = shown.decode()
    assert "4/4" in text
    assert "━" in text, "a bar"
    assert all(word in text for word in ("MEMBER", "PHOTO", "RESULT", "eileen/0.jpg", "kept 4 photos"))


async def test_a_change_of_the_model_pack_reads_photos_and_rejected_faces_again(service: Running) -> None:
    for name, photos in demo_members().items():
        await service.http.post("/api/members", data={"name": name}, files=parts(photo=photos[0]))
    gallery, model_id = service.services.gallery, service.services.vision.state.model_id or ""
    ben = gallery.member("ben").photos[0]
    reading = await service.services.read_photo(gallery.photo_bytes(ben.id))
    face = reading.faces[0]
    crop = NewRejection(gallery.photo_bytes(ben.id), ben.width, ben.height, "a stream", model_id, face)
    gallery.add_rejected("eileen", crop)
    before = gallery.known(model_id)
    # As if all of it had been made by another model.
    with contextlib.closing(sqlite3.connect(gallery.folder / "gallery.sqlite3", timeout=30)) as database, database:
        database.execute("UPDATE embeddings SET model_id = 'older'")
        database.execute("UPDATE rejection_embeddings SET model_id = 'older'")
    await until(lambda: len(gallery.known(model_id).owners) == len(before.owners))
    await until(lambda: len(gallery.known(model_id).rejected_owners) == 1)
    after = gallery.known(model_id)
    assert np.allclose(before.embeddings, after.embeddings, atol=1e-4)
    assert float(before.rejected[0] @ after.rejected[0]) > 0.99
