"""`streamer image` and `streamer video` on what cannot be done, or shows nobody: one clear line, and nothing half done.

What the video path says of every kind of file is tested in `tests/unit/test_offline_video.py`; here it is the commands.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from streamer.cli import app
from streamer.errors import StreamerError
from streamer.ingest.demo_cast import ASTRONAUT, CARD_PARTY, demo_members
from streamer.offline.given import picture_of
from streamer.tracks import STYLES
from streamer.vision.models import ModelStore
from tests import media

pytestmark = pytest.mark.models

Maker = Callable[[Path], Path]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, model_store: ModelStore) -> Path:
    """A data folder in which eileen is enrolled."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "models").symlink_to(model_store.root, target_is_directory=True)
    (folder / "eileen.jpg").write_bytes(demo_members()["eileen"][0])
    assert streamer(folder, "members", "add", "eileen", str(folder / "eileen.jpg")).exit_code == 0
    return folder


def streamer(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--data-dir", str(data_dir), *arguments])


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(people: Path, folder: Path, said: str, *arguments: str) -> None:
    """The command fails with one line that holds `said`, and leaves the folder as it was."""
    before = tree(folder)
    done = streamer(people, *arguments)
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, StreamerError), repr(done.exception)
    line = str(done.exception)
    assert "\n" not in line
    assert said in line
    assert done.stdout == ""
    assert tree(folder) == before


def text(folder: Path) -> Path:
    (folder / "input.bin").write_text("neither a picture nor a video " * 50)
    return folder / "input.bin"


def empty(folder: Path) -> Path:
    (folder / "input.bin").touch()
    return folder / "input.bin"


def missing(folder: Path) -> Path:
    return folder / "input.bin"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "input.bin")
    return folder / "input.bin"


def cut_photo(folder: Path) -> Path:
    whole = ASTRONAUT.path.read_bytes()
    (folder / "input.png").write_bytes(whole[: len(whole) // 2])
    return folder / "input.png"


def cut_video(folder: Path) -> Path:
    media.video(folder / "input.mp4")
    (folder / "input.mp4").write_bytes((folder / "input.mp4").read_bytes()[:2000])
    return folder / "input.mp4"


def large_photo(folder: Path) -> Path:
    Image.new("L", (10_000, 10_000)).save(folder / "input.png")
    return folder / "input.png"


def sound(folder: Path) -> Path:
    return media.audio_only(folder / "input.mp4")


def short_video(folder: Path) -> Path:
    return media.video(folder / "input.mp4")


def a_photo(folder: Path) -> Path:
    (folder / "input.mp4").write_bytes(ASTRONAUT.path.read_bytes())
    return folder / "input.mp4"


def no_pictures(folder: Path) -> Path:
    return media.undecodable(folder / "input.mp4")


IMAGES: dict[str, tuple[Maker, str]] = {
    "no image": (text, "not an image"),
    "no bytes": (empty, "empty"),
    "no file": (missing, "no such file"),
    "a pipe": (a_pipe, "is not a file"),
    "cut short": (cut_photo, "damaged or cut short"),
    "100 megapixels": (large_photo, "megapixels"),
    "sound": (sound, "not an image"),
    "a video": (short_video, "not an image"),
}
VIDEOS: dict[str, tuple[Maker, str]] = {
    "no video": (text, "no video that can be read"),
    "no bytes": (empty, "empty"),
    "no file": (missing, "no such file"),
    "a pipe": (a_pipe, "no regular file"),
    "cut short": (cut_video, "input.mp4"),
    "sound": (sound, "has no video: it holds only audio"),
    "a photo": (a_photo, "is a picture, not a video"),
    "no pictures": (no_pictures, "not one picture in it can be decoded"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_inputs_that_are_no_photo(people: Path, tmp_path: Path, case: str) -> None:
    make, said = IMAGES[case]
    out = str(tmp_path / "out")
    refused(people, tmp_path, said, "image", str(make(tmp_path)), "--member", "eileen", "--out", out)


@pytest.mark.parametrize("case", VIDEOS)
def test_inputs_that_are_no_video(people: Path, tmp_path: Path, case: str) -> None:
    make, said = VIDEOS[case]
    out = str(tmp_path / "out.mp4")
    refused(people, tmp_path, said, "video", str(make(tmp_path)), "--member", "eileen", "--out", out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--member", "zoe"], "there is no member 'zoe': enrolled are 'eileen'"),
        (["--member", "eileen", "--object", "umbrella"], "engine sam3 answers any phrase"),
    ],
    ids=["member", "object"],
)
def test_orders_that_cannot_be_answered(people: Path, tmp_path: Path, options: list[str], said: str) -> None:
    photo, clip = str(ASTRONAUT.path), str(media.video(tmp_path / "in.mp4"))
    refused(people, tmp_path, said, "image", photo, *options, "--out", str(tmp_path / "out"))
    refused(people, tmp_path, said, "video", clip, *options, "--out", str(tmp_path / "out.mp4"))


def test_outputs_that_cannot_be(people: Path, tmp_path: Path) -> None:
    photo, clip = tmp_path / "annotated.png", media.video(tmp_path / "in.mp4")
    photo.write_bytes(ASTRONAUT.path.read_bytes())
    for out, said in (
        (photo, "cannot make the folder"),
        (photo / "deep", "cannot make the folder"),
        (Path("/proc/out"), "cannot make the folder"),
        (Path("/proc"), "cannot write /proc"),
        (tmp_path, "is the input"),
    ):
        refused(people, tmp_path, said, "image", str(photo), "--member", "eileen", "--out", str(out))
    for out, said in (
        (tmp_path / "missing" / "out.mp4", "does not exist; make the folder first"),
        (clip / "out.mp4", "is not a folder"),
        (Path("/proc/out.mp4"), "cannot write /proc"),
        (clip, "is the input"),
        (tmp_path / "out.avi", "use .mp4 or .mov or .mkv"),
    ):
        refused(people, tmp_path, said, "video", str(clip), "--member", "eileen", "--out", str(out))


def test_a_full_disk_leaves_no_picture_of_a_photo(people: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: one picture fits, the others do not."""
    options = ["--data-dir", str(people), "--member", "eileen", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "image", str(CARD_PARTY.path), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "free some space" in done.stderr
    assert tree(tmp_path) == {}


def test_a_photo_that_changes_while_it_is_read(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tmp_path / "in.png"
    whole = ASTRONAUT.path.read_bytes()
    read = Path.read_bytes

    def while_somebody_writes(path: Path) -> bytes:
        if path == photo:
            with photo.open("ab") as file:
                file.write(b"more")
        return read(path)

    photo.write_bytes(whole)
    monkeypatch.setattr(Path, "read_bytes", while_somebody_writes)
    done = streamer(people, "image", str(photo), "--member", "eileen", "--out", str(tmp_path / "out"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "changed while it was read" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def nobody(path: Path) -> Path:
    """A second of a picture with structure and without people, that moves."""
    wide = media.texture(400, 180)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for n in range(20):
            i420 = np.concatenate([wide[:180, 2 * n : 2 * n + 320], np.full((90, 320), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(i420), format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "options", [*(["--style", style] for style in STYLES), ["--every", "4"], ["--fancam", "9:16"]], ids=" ".join
)
def test_a_video_without_anybody_is_done_and_said(people: Path, tmp_path: Path, options: list[str]) -> None:
    clip, out = nobody(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    done = streamer(people, "video", str(clip), "--member", "eileen", "--out", str(out), *options)
    assert done.exit_code == 0, done.output
    assert "never seen" in done.stderr
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    assert set(tree(tmp_path)) == {"in.mp4", "out.mp4", "out.jsonl"}


def test_a_photo_without_the_member_or_anybody_is_done_and_said(people: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((200, 301, 3), 90, np.uint8)).save(tmp_path / "nobody.png")
    for number, photo in enumerate((tmp_path / "nobody.png", CARD_PARTY.path)):
        out = tmp_path / str(number)
        done = streamer(people, "image", str(photo), "--member", "eileen", "--out", str(out))
        assert done.exit_code == 0, done.output
        assert "never seen" in done.stderr
        original, _ = picture_of(photo)
        assert np.array_equal(np.asarray(Image.open(out / "annotated.png"))[..., ::-1], original)
        assert np.asarray(Image.open(out / "cutout.png"))[..., 3].max() == 0
