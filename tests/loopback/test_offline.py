"""Photos, video files and the Python API with the real lite engine, on people that dependencies ship."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from streamer import IdentityAwareSegmentation
from streamer.bench.offline import Stage, make_clip
from streamer.cli import app
from streamer.contract import decode_mask
from streamer.errors import (
    ConfigError,
    GalleryError,
    MemberUnknown,
    PhotoRefused,
    PromptUnsupported,
    SourceUnusable,
    StreamerError,
)
from streamer.ingest.demo_cast import ASTRONAUT, CARD_PARTY, demo_members
from streamer.offline.video import VideoResult
from streamer.service.settings import load
from streamer.vision.models import ModelStore

pytestmark = pytest.mark.models

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 180.0
SECONDS = 4
LONG_SECONDS = 12


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, model_store: ModelStore) -> Path:
    """A data folder in which the demo's people are enrolled."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "models").symlink_to(model_store.root, target_is_directory=True)
    for name in ("eileen", "ben"):
        (folder / f"{name}.jpg").write_bytes(demo_members()[name][0])
        assert invoked(folder, "members", "add", name, str(folder / f"{name}.jpg")) == 0
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person walking to and fro, with a tone; 640x360."""
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    make_clip(path, (640, 360), SECONDS)
    return path


@pytest.fixture(scope="module")
def segmentation(people: Path) -> Iterator[IdentityAwareSegmentation]:
    with IdentityAwareSegmentation(data_dir=people) as made:
        yield made


def command(data_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "streamer", "--data-dir", str(data_dir), *arguments]


def invoked(data_dir: Path, *arguments: str) -> int:
    """As `streamer`, in this process: seconds quicker. The exit status."""
    return CliRunner().invoke(app, ["--data-dir", str(data_dir), *arguments]).exit_code


def pixels(path: Path) -> np.ndarray:
    """As it is in the file."""
    with Image.open(path) as image:
        return np.asarray(image)


def streamer(data_dir: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data_dir, *arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def told(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Photos


def test_a_photo_from_the_command_line(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    photo = str(CARD_PARTY.path)
    done = streamer(
        people, "image", photo, "--member", "BEN", "--object", "shirt", "--out", str(out), "--progress-json"
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said[-1]["result"]["seen"] == {"ben": 1}
    assert {"done", "total", "fps", "eta_seconds", "stage"} == set(said[0])
    assert sorted(file.name for file in out.iterdir()) == ["annotated.png", "cutout.png", "overlay.png", "result.json"]
    original = pixels(CARD_PARTY.path).astype(int)
    annotated, cutout = pixels(out / "annotated.png"), pixels(out / "cutout.png")
    assert annotated.shape == original.shape
    assert cutout.shape == (*original.shape[:2], 4)
    result = json.loads((out / "result.json").read_text())
    assert result["size"] == [original.shape[1], original.shape[0]]
    ben = next(track for track in result["tracks"] if track["name"] == "ben")
    assert 400 < (ben["face"][0] + ben["face"][2]) / 2 < 670
    shirt, body = decode_mask(ben["object"]["mask"]), decode_mask(ben["mask"])
    assert 0 < shirt.sum() < body.sum()
    assert not (shirt & ~body).any()
    # Drawn where the shirt is, and nowhere far from it.
    changed = np.abs(annotated.astype(int) - original).max(axis=2) > 8
    assert changed[shirt].mean() > 0.9
    alpha = cutout[..., 3]
    assert alpha[shirt].mean() > 200
    assert ((alpha > 10) & (alpha < 245)).sum() > 100  # edges are soft
    assert alpha[:, 800:].max() == 0  # the others are not in it


def test_a_folder_of_photos(people: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(pixels(ASTRONAUT.path)).save(photos / "a.jpg")
    Image.fromarray(pixels(CARD_PARTY.path)).resize((641, 443)).save(photos / "b.png")
    (photos / "c.jpg").write_text("no picture")
    done = streamer(people, "image", str(photos), "--member", "eileen", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "never seen" in done.stderr
    assert "refused: " in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert pixels(tmp_path / "out" / "b" / "annotated.png").shape == (443, 641, 3)
    assert pixels(tmp_path / "out" / "b" / "cutout.png")[..., 3].max() == 0


def test_every_photo_of_a_folder_has_results_of_its_own(people: Path, tmp_path: Path) -> None:
    """Whatever two of them share; and hidden ones belong to all files, but not to the images of a folder."""
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ["x.jpg", "x.png", "x_jpg.jpg", "X.bmp", "x (2).jpg", ".x.jpg", "._x.jpg", "notes"]
    for number, name in enumerate(names):
        Image.new("RGB", (64 + 2 * number, 64), "grey").save(photos / name, "PNG")
    for options, wanted in (([], names[:5]), (["--all-files"], names)):
        out = tmp_path / f"out{len(options)}"
        arguments = ("image", str(photos), "--member", "eileen", *options, "--out", str(out), "--progress-json")
        done = streamer(people, *arguments)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])["result"]["photos"]
        assert sorted(photo["file"] for photo in told) == sorted(wanted)
        for photo in told:
            (result,) = (Path(path) for path in photo["outputs"] if path.endswith("result.json"))
            assert json.loads(result.read_text())["size"][0] == 64 + 2 * names.index(photo["file"])
        assert len({folder.name.casefold() for folder in out.iterdir()}) == len(wanted)
        assert not [folder for folder in out.iterdir() if folder.name.startswith(".")]


BAD_IMAGES = {
    "unknown member": (["--member", "zoe"], "there is no member 'zoe': enrolled are"),
    "object": (["--member", "ben", "--object", "umbrella"], "engine sam3 answers any phrase"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_photos_that_cannot_be_done_end_in_one_line(people: Path, tmp_path: Path, case: str) -> None:
    options, said = BAD_IMAGES[case]
    done = streamer(people, "image", str(CARD_PARTY.path), *options, "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_photo_is_never_written_over(people: Path, tmp_path: Path) -> None:
    photo = tmp_path / "annotated.png"
    photo.write_bytes(ASTRONAUT.path.read_bytes())
    done = streamer(people, "image", str(photo), "--member", "eileen", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "is the input" in done.stderr
    assert photo.read_bytes() == ASTRONAUT.path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["annotated.png"]


def test_usage_is_told_with_status_2(people: Path, tmp_path: Path) -> None:
    for options in (
        ["image", "x.jpg", "--member", "ben", "--out", "o", "--box", "1,2,3"],
        ["image", "x.jpg", "--member", "ben", "--out", "o", "--prompt", "smell"],
        ["video", "x.mp4", "--member", "ben", "--out", "o.mp4", "--style", "pretty"],
        ["video", "x.mp4", "--member", "ben", "--out", "o.mov", "--style", "hide", "--transparent"],
        ["video", "x.mp4", "--member", "ben", "--out", "o.mp4", "--fancam", "tall"],
        ["video", "x.mp4", "--member", "ben", "--out", "o.mp4", "--from", "3", "--to", "2"],
        ["video", "x.mp4", "--out", "o.mp4"],
    ):
        assert invoked(people, *options) == 2, options


def test_a_drawn_box_says_who_is_meant(segmentation: IdentityAwareSegmentation) -> None:
    photo = CARD_PARTY.path
    by_face = segmentation.segment_image(photo, "ben")
    assert len(repr(by_face)) < 2000, "without its pictures"
    emma = segmentation.segment_image(photo, "ben", box=(0, 210, 330, 886))
    assert by_face.seen
    assert emma.seen
    (face_mask,), (box_mask,) = by_face.masks, emma.masks
    assert not (face_mask & box_mask).sum() > 0.1 * box_mask.sum()
    columns = np.flatnonzero(box_mask.any(axis=0))
    assert columns.mean() < 330
    assert (emma.cutout[..., 3] > 128)[box_mask].mean() > 0.9


def test_a_drawn_box_around_somebody_without_a_face(segmentation: IdentityAwareSegmentation) -> None:
    """From behind, say: here the face is painted over."""
    picture = pixels(ASTRONAUT.path).copy()
    picture[60:190, 170:280] = 90
    found = segmentation.segment_image(picture, "ben", box=(60, 0, 420, 512))
    assert found.tracks == () or all(track.name is None for track in found.tracks)
    with pytest.raises(ConfigError, match="holds nothing"):
        segmentation.segment_image(picture, "ben", box=(600, 600, 700, 700))


def photo_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_photos_of_every_kind_are_read_right(segmentation: IdentityAwareSegmentation, tmp_path: Path) -> None:
    plain = Image.fromarray(pixels(ASTRONAUT.path))
    turned = plain.rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    alpha = plain.convert("RGBA")
    alpha.putalpha(Image.new("L", plain.size, 255))
    grey = np.asarray(plain.convert("L")).astype(np.uint16) * 257
    kinds = {
        "turned.jpg": photo_bytes(turned, "JPEG", exif=exif, quality=95),
        "alpha.png": photo_bytes(alpha, "PNG"),
        "cmyk.jpg": photo_bytes(plain.convert("CMYK"), "JPEG", quality=95),
        "grey16.png": photo_bytes(Image.fromarray(grey), "PNG"),
        "odd.png": photo_bytes(plain.crop((0, 0, 511, 509)), "PNG"),
        "wrong.png": photo_bytes(plain, "JPEG", quality=95),
    }
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        found = segmentation.segment_image(tmp_path / name, "eileen")
        assert found.seen, name
        assert found.similarity is not None
        assert found.similarity > 0.5, name
        size = (509, 511) if name == "odd.png" else (512, 512)
        assert found.annotated.shape[:2] == found.cutout.shape[:2] == found.masks[0].shape == size
        box = found.tracks[0].face_xyxy
        assert box is not None
        assert 150 < (box[0] + box[2]) / 2 < 290, name  # upright


def test_a_large_photo_keeps_its_size(segmentation: IdentityAwareSegmentation, tmp_path: Path) -> None:
    large = Image.fromarray(pixels(ASTRONAUT.path)).resize((3001, 3000))
    large.save(tmp_path / "large.jpg")
    found = segmentation.segment_image(tmp_path / "large.jpg", "eileen")
    assert found.seen
    assert found.cutout.shape == (3000, 3001, 4)


def test_pictures_that_are_none(segmentation: IdentityAwareSegmentation, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    whole = ASTRONAUT.path.read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    make_clip(tmp_path / "video.jpg.mp4", (64, 64), 0.2)
    (tmp_path / "video.jpg.mp4").rename(tmp_path / "video.jpg")
    for given, said in (
        (tmp_path / "text.jpg", "not an image"),
        (tmp_path / "empty.jpg", "empty"),
        (tmp_path / "short.png", "damaged or cut short"),
        (tmp_path / "huge.png", "megapixels"),
        (tmp_path / "video.jpg", "not an image"),
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path, "is a folder"),
        (np.zeros((4, 4, 3), np.uint8), "too small"),
        (np.zeros((64, 64, 3), np.float32), "no picture"),
        (np.zeros((64, 64, 7), np.uint8), "no picture"),
        (7, "a picture cannot be of type int: give a path, an RGB array or a PIL image"),
        (None, "a picture cannot be of type NoneType: give a path"),
    ):
        with pytest.raises(PhotoRefused, match=said):
            segmentation.segment_image(given, "ben")


def test_many_pictures_with_progress(segmentation: IdentityAwareSegmentation) -> None:
    told: list[int] = []
    given = [ASTRONAUT.path, Path("missing.jpg"), np.zeros((64, 64, 3), np.uint8)]
    found = list(segmentation.segment_images(given, "eileen", on_progress=lambda p: told.append(p.done)))
    assert isinstance(found[1], PhotoRefused)
    assert [getattr(one, "seen", None) for one in found] == [True, None, False]
    assert told[-1] == 3


# The Python API


def test_members_of_its_own_beside_the_gallery(people: Path) -> None:
    photo = pixels(CARD_PARTY.path)
    with (
        IdentityAwareSegmentation(data_dir=people, use_gallery=False) as first,
        IdentityAwareSegmentation(data_dir=people) as second,
    ):
        assert first.members == ()
        assert first.add_member("Max", photo[190:520, 400:670]) == 1
        assert first.segment_image(photo, "max").seen
        assert "Max" not in second.members
        assert {"eileen", "ben"} <= set(second.members)
        with pytest.raises(MemberUnknown, match="known are 'Max'"):
            first.segment_image(photo, "ben")
        with pytest.raises(PhotoRefused, match="faces"):
            first.add_member("Group", photo)
    first.close()
    with pytest.raises(ConfigError, match="closed"):
        first.segment_image(photo, "max")


@pytest.mark.parametrize(
    "arguments", [{"engine": "magic"}, {"model_size": "huge"}, {"device": "tpu"}, {"dtype": "int4"}]
)
def test_arguments_that_cannot_be(arguments: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="use one of"):
        IdentityAwareSegmentation(**arguments)  # type: ignore[arg-type]


def test_every_error_is_of_the_projects_tree(
    segmentation: IdentityAwareSegmentation, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(PromptUnsupported, match="sam3"):
        segmentation.process_video(clip, "ben", out, object_prompt="umbrella")
    with pytest.raises(SourceUnusable, match="no such file"):
        segmentation.process_video(tmp_path / "none.mp4", "ben", out)
    with pytest.raises(MemberUnknown):
        segmentation.process_video(clip, "zoe", out)
    for name in (None, 12, b"ben"):
        said = rf"name is {name!r}: give it as text"
        with pytest.raises(GalleryError, match=said):
            segmentation.add_member(name, ASTRONAUT.path)  # type: ignore[arg-type]
        for call in (
            lambda name=name: segmentation.segment_image(ASTRONAUT.path, name),
            lambda name=name: segmentation.process_video(clip, name, out),
            lambda name=name: segmentation.open_stream("demo", name),
        ):
            with pytest.raises(MemberUnknown, match=said):
                call()
    with pytest.raises(StreamerError):
        segmentation.process_video(clip, "ben", out, frame_sampling=0)
    with pytest.raises(StreamerError):
        segmentation.open_stream("ftp://camera/live", "ben")
    assert not any(tmp_path.iterdir())


def test_a_stream_is_an_iterator(segmentation: IdentityAwareSegmentation, clip: Path) -> None:
    stream = segmentation.open_stream(str(clip), "eileen")
    found = next(stream)
    while not found.seen:
        found = next(stream)
    assert found.image.shape == found.drawn("cutout").shape == (360, 640, 3)
    assert found.json["tracks"][0]["name"] == "eileen"
    assert found.mask(found.tracks[0]).any()
    stream.close()  # type: ignore[attr-defined]
    assert sum(1 for _ in segmentation.open_stream(str(clip), "ben")) > 0  # a file ends by itself


def test_importing_the_package_stays_light() -> None:
    script = (
        "import sys, streamer\n"
        "print(*[n for n in ('numpy', 'cv2', 'av', 'onnxruntime', 'torch', 'pydantic') if n in sys.modules])\n"
        "print(streamer.IdentityAwareSegmentation.__name__, 'onnxruntime' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\nIdentityAwareSegmentation False\n"


# Video files


def test_the_member_is_followed_through_a_file(
    segmentation: IdentityAwareSegmentation, clip: Path, tmp_path: Path
) -> None:
    done = segmentation.process_video(clip, ["Eileen", "ben"], tmp_path / "out.mp4")
    assert done.frames == frames(tmp_path / "out.mp4") == SECONDS * 25
    assert done.seen["eileen"] > 0.9 * done.frames
    assert done.never_seen == ["ben"]


@pytest.mark.parametrize("every", [1, 5])
def test_the_fancam_keeps_the_face(
    segmentation: IdentityAwareSegmentation, clip: Path, tmp_path: Path, every: int
) -> None:
    """The face is found again in the fancam's own picture, whole and near its middle."""
    out = tmp_path / "fancam.mp4"
    done = segmentation.process_video(clip, "eileen", out, every, style="none", fancam="9:16")
    assert done.size == (202, 360)
    faces = segmentation._seeing().models.faces
    assert faces is not None
    found = looked = 0
    with av.open(str(out)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 10 == 5:
                looked += 1
                seen = faces.find(frame.to_ndarray(format="bgr24"))
                found += any(30 < face.centre[0] < 172 for face in seen)
    assert found == looked
    visible = [line["tracks"][0] for line in told(tmp_path / "fancam.jsonl") if line["tracks"]]
    assert sum(track["name"] == "eileen" for track in visible) >= 0.9 * done.frames


@pytest.mark.parametrize("every", [1, 3])
def test_who_is_told_of_as_tracked_has_a_mask(
    segmentation: IdentityAwareSegmentation, tmp_path: Path, every: int
) -> None:
    """In a crowd, whose masks are found one after the other; from the very first line on."""
    crowd = tmp_path / "crowd.mp4"
    photo = Image.fromarray(pixels(CARD_PARTY.path)).resize((1040, 720))
    with av.open(str(crowd), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 960, 640, "yuv420p"
        for n in range(14):
            view = np.asarray(photo.crop((n, 2 * n, 960 + n, 640 + 2 * n)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")))
        container.mux(stream.encode(None))
    done = segmentation.process_video(crowd, "ben", tmp_path / "out.mp4", every)
    lines = told(tmp_path / "out.jsonl")
    tracks = [track for line in lines for track in line["tracks"]]
    assert [t for t in tracks if (t["state"] == "tracked") != bool(decode_mask(t["mask"]).any())] == []
    assert lines[0]["tracks"]
    assert done.seen["ben"] == len(lines)
    assert {track["state"] for track in tracks} == {"tracked", "lost"}


def test_masks_between_looks_follow_the_person(
    segmentation: IdentityAwareSegmentation, clip: Path, tmp_path: Path
) -> None:
    """Against the masks of looking at every frame."""
    segmentation.process_video(clip, "eileen", tmp_path / "all.mp4")
    done = segmentation.process_video(clip, "eileen", tmp_path / "some.mp4", frame_sampling=5)
    assert done.frames == SECONDS * 25
    overlaps = []
    for a, b in zip(told(tmp_path / "all.jsonl"), told(tmp_path / "some.jsonl"), strict=True):
        if a["tracks"] and b["tracks"]:
            one, other = (decode_mask(line["tracks"][0]["mask"]) for line in (a, b))
            overlaps.append((one & other).sum() / max(1, (one | other).sum()))
    assert len(overlaps) > 0.9 * done.frames
    assert np.mean(overlaps) > 0.9
    assert np.quantile(overlaps, 0.05) > 0.8


def long_clip(tmp_path: Path) -> Path:
    path = tmp_path / "long.mp4"
    make_clip(path, (640, 360), LONG_SECONDS)
    return path


def started(people: Path, clip: Path, out: Path) -> subprocess.Popen[str]:
    """A run that has begun to write."""
    process = subprocess.Popen(
        command(people, "video", str(clip), "--member", "eileen", "--out", str(out), "--progress-json"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("done", 0) >= 60:
            return process
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_whole_file_and_resume_goes_on(people: Path, tmp_path: Path, number: signal.Signals) -> None:
    clip, out = long_clip(tmp_path), tmp_path / "out.mp4"
    process = started(people, clip, out)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, stderr
    said = json.loads(stdout.splitlines()[-1])["result"]
    assert said["interrupted"]
    assert "Traceback" not in stderr
    assert 60 <= frames(out) == said["frames"] == len(told(out.with_suffix(".jsonl"))) < LONG_SECONDS * 25
    if number is signal.SIGTERM:
        return
    done = streamer(people, "video", str(clip), "--member", "eileen", "--out", str(out), "--resume", "--progress-json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert (result["frames"], result["resumed_frames"]) == (LONG_SECONDS * 25, said["frames"])
    assert frames(out) == len(told(out.with_suffix(".jsonl"))) == LONG_SECONDS * 25
    assert result["seen"]["eileen"] > LONG_SECONDS * 23
    assert sorted(file.name for file in tmp_path.iterdir()) == ["long.mp4", "out.jsonl", "out.mp4"]
    # A script that always says --resume finds nothing left to do.
    whole = out.read_bytes()
    again = streamer(people, "video", str(clip), "--member", "eileen", "--out", str(out), "--resume")
    assert again.returncode == 0, again.stderr
    assert f"{out} is finished already; leave --resume out to make it anew" in again.stderr + again.stdout
    assert out.read_bytes() == whole


def test_where_somebody_is_to_be_hidden_every_mask_is_new_on_every_picture(
    segmentation: IdentityAwareSegmentation, tmp_path: Path
) -> None:
    """Who is not named yet may be the one; masks made in turn would trail behind those who move."""
    clip = tmp_path / "clip.mp4"
    party = cv2.resize(CARD_PARTY.read(), (960, 664))
    with av.open(str(clip), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = 800, 640, "yuv420p"
        for index in range(10):
            view = party[:640, 8 * index : 8 * index + 800]
            video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="bgr24")
            container.mux(video.encode(video_frame.reformat(format="yuv420p")))
        container.mux(video.encode(None))
    segmentation.process_video(clip, "ben", tmp_path / "out.mp4", style="hide")
    seen = [
        {track["id"]: track["mask"]["counts"] for track in line["tracks"] if track["state"] == "tracked"}
        for line in told(tmp_path / "out.jsonl")
    ]
    assert max(map(len, seen)) > 3
    stale = [(n, track) for n in range(1, 10) for track in seen[n] if seen[n][track] == seen[n - 1].get(track)]
    assert not stale


class Soon(threading.Event):
    """Set once it was looked at so often: after so many pictures."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def sharpening_clip(path: Path, blurred: int = 12, pictures: int = 50) -> Path:
    """As `clip`, but nobody can be told on the first pictures, which are out of focus."""
    stage = Stage((640, 360))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        for index in range(pictures):
            i420 = stage.picture(index)
            if index < blurred:
                i420 = np.concatenate([cv2.GaussianBlur(i420[:360], (0, 0), 3), i420[360:]])
            frame = av.VideoFrame.from_ndarray(i420, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("every", [1, 3])
def test_a_stopped_run_leaves_no_picture_that_a_later_name_would_change(
    segmentation: IdentityAwareSegmentation, tmp_path: Path, every: int
) -> None:
    """Gone on with, it showed for good whom `hide` was to hide: they were not named yet when it was stopped."""
    clip = sharpening_clip(tmp_path / "clip.mp4")

    def hidden(name: str, **options: Any) -> tuple[VideoResult, list[list[str | None]]]:
        out = tmp_path / name
        done = segmentation.process_video(clip, "eileen", out, every, style="hide", **options)
        lines = told(out.with_suffix(".jsonl")) if done.frames else []
        return done, [[track["name"] for track in line["tracks"]] for line in lines]

    _, names = hidden("whole.mp4")
    assert names == [["eileen"]] * 50
    for looks in (8, 40):
        early, some = hidden("out.mp4", stop=Soon(looks), resume=True)
        assert early.interrupted
        assert some == names[: early.frames]
    assert early.frames > 0
    done, all_of_them = hidden("out.mp4", resume=True)
    assert (done.interrupted, done.frames, done.resumed_frames) == (False, 50, early.frames)
    assert all_of_them == names


def test_a_killed_run_leaves_what_resume_goes_on_with(people: Path, tmp_path: Path) -> None:
    clip, out = long_clip(tmp_path), tmp_path / "out.mp4"
    process = started(people, clip, out)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert not out.exists()
    kept = frames(tmp_path / "out.part.mp4")
    assert kept > 0
    done = streamer(people, "video", str(clip), "--member", "eileen", "--out", str(out), "--resume", "--progress-json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert 0 < result["resumed_frames"] <= kept
    assert frames(out) == len(told(out.with_suffix(".jsonl"))) == LONG_SECONDS * 25
    assert sorted(file.name for file in tmp_path.iterdir()) == ["long.mp4", "out.jsonl", "out.mp4"]


def test_a_full_disk_is_one_line_and_no_half_file(people: Path, clip: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the system call fails in the same place."""
    out = tmp_path / "out.mp4"
    limit = 40_000
    done = streamer(
        people,
        "video",
        str(clip),
        "--member",
        "eileen",
        "--out",
        str(out),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "free some space" in done.stderr
    assert not out.exists()
    assert not out.with_suffix(".jsonl").exists()


def test_never_seen_is_said_and_not_an_error(people: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = streamer(people, "video", str(clip), "--member", "ben", "--out", str(out), "--to", "1", "--style", "hide")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "never seen" in done.stderr
    assert "nobody is hidden under that name" in " ".join(done.stderr.split())
    assert frames(out) == 25


def test_the_command_line_checks_before_it_loads_models(data_dir: Path, clip: Path, tmp_path: Path) -> None:
    """With an empty data folder: nobody is enrolled, and no model is there to be loaded."""
    done = streamer(data_dir, "video", str(clip), "--member", "ben", "--out", str(tmp_path / "out.mp4"))
    assert done.returncode == 1
    assert "nobody is enrolled yet" in done.stderr
    assert not load(None, {"data_dir": data_dir}).data_folder.joinpath("models").exists()
