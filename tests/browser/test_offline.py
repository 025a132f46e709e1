"""Photos, video files and recordings in the dashboard. After the tests of the live page: these end its streams."""

from __future__ import annotations

import json
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from tests.browser.conftest import TOKEN, Dashboard
from tests.browser.watching import choose, press, settled, until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

JOB_SECONDS = 240.0
MEMBER = "collins"
SIZE = (480, 272)


@pytest.fixture(scope="module")
def quiet(dashboard: Dashboard) -> Dashboard:
    """The dashboard without a stream, the astronaut enrolled: two cores do one thing at a time."""
    for stream in dashboard.api.get("/api/streams").json():
        dashboard.api.delete(f"/api/streams/{stream['id']}")
    for member in dashboard.api.get("/api/members").json():
        dashboard.api.delete(f"/api/members/{member['name']}")
    return dashboard


@pytest.fixture(scope="module")
def enrolled(quiet: Dashboard, astronaut: Path) -> Dashboard:
    files = [("photos", ("astronaut.png", astronaut.read_bytes(), "image/png"))]
    answer = quiet.api.post("/api/members", data={"name": MEMBER}, files=files, timeout=120)
    assert answer.status_code == 201, answer.text
    return quiet


def film(path: Path, frames: int) -> Path:
    """The astronaut swaying before a wall, away for the middle third, 25 fps."""
    person = Image.fromarray(photos.astronaut()).resize((272, 272), Image.Resampling.LANCZOS)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(frames):
            picture = Image.new("RGB", SIZE, (70, 80, 95))
            if not frames // 3 <= number < 2 * frames // 3:
                picture.paste(person, (100 + round(30 * np.sin(number / 12)), 0))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def open_page(page: Page, dashboard: Dashboard, name: str) -> None:
    # By a link: opened at another address than its root, Streamlit looks for some files in vain and says so.
    page.goto(dashboard.url.partition("?")[0])
    settled(page)
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()
    settled(page)


def check_link(page: Page, video: Locator, scheme: str) -> None:
    """The browser streams from the service under a link, and goes on under another one when that has ended."""
    address = str(video.evaluate("video => video.src"))
    assert "&sig=" in address
    assert TOKEN not in address
    if scheme == "light":
        return
    page.wait_for_timeout(3000)  # a link that fails sooner would not be renewed
    # As the browser finds out: the link that it has opens nothing any more.
    video.evaluate("video => { video.src = video.src.replace(/sig=./, 'sig=x'); video.currentTime = 1.5; }")
    until(lambda: "sig=x" not in str(video.evaluate("video => video.src")), "another link")
    until(lambda: loaded(video), "the video under it")


def jobs(dashboard: Dashboard) -> list[dict[str, Any]]:
    return list(dashboard.api.get("/api/jobs").json())


def loaded(video: Locator) -> bool:
    return bool(video.evaluate("video => video.readyState >= 2 && video.duration > 0"))


def position(video: Locator) -> float:
    return float(video.evaluate("video => video.currentTime"))


def test_a_photo_is_shown_three_times(page: Page, enrolled: Dashboard, astronaut: Path, screenshots: Path) -> None:
    open_page(page, enrolled, "Images")
    page.locator('input[type="file"]').set_input_files(astronaut)
    page.get_by_text("Or drag a box around the person.").wait_for()
    press(page, "Find in photos")
    pictures = page.locator("figure img")
    until(lambda: pictures.count() == 3, "three pictures", JOB_SECONDS)
    until(lambda: all(p.evaluate("image => image.naturalWidth") == 512 for p in pictures.all()), "them to be loaded")
    page.get_by_text(f"{MEMBER}, similarity").wait_for()
    # The cutout: nothing in a corner, the person in the middle.
    alphas = pictures.nth(2).evaluate(
        """image => {
            const canvas = new OffscreenCanvas(512, 512), context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [[5, 5], [220, 400]].map(([x, y]) => context.getImageData(x, y, 1, 1).data[3]);
        }"""
    )
    assert alphas == [0, 255]
    page.screenshot(path=screenshots / "images.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Cutout").click()
    assert download.value.suggested_filename == "astronaut_cutout.png"
    with Image.open(download.value.path()) as picture:
        assert picture.mode == "RGBA"


def test_a_drawn_box_goes_with_the_photo(page: Page, enrolled: Dashboard, astronaut: Path) -> None:
    open_page(page, enrolled, "Images")
    page.locator('input[type="file"]').set_input_files(astronaut)
    image = page.locator(".preview img")
    until(lambda: image.evaluate("image => image.naturalWidth") == 512, "the photo in the form")
    frame = image.bounding_box()
    assert frame is not None

    def at(x: float, y: float) -> tuple[float, float]:
        return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]

    page.mouse.move(*at(0.1, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.4, 0.5))
    page.mouse.move(*at(0.75, 0.9))
    page.mouse.up()
    page.get_by_text("The person in this box is taken.").wait_for()
    before = len(jobs(enrolled))
    press(page, "Find in photos")
    until(lambda: len(jobs(enrolled)) > before, "the job")
    box = jobs(enrolled)[0]["spec"]["box"]
    assert np.allclose(box, [51, 51, 384, 461], atol=3)
    until(lambda: jobs(enrolled)[0]["state"] == "done", "it to be done", JOB_SECONDS)


def test_a_video_goes_on_while_the_page_is_away(
    page: Page, enrolled: Dashboard, tmp_path: Path, screenshots: Path
) -> None:
    clip = film(tmp_path / "stage.mp4", 75)
    open_page(page, enrolled, "Videos")
    choose(page, "Style", "Cutout: the background is dimmed")
    page.locator('input[type="file"]').set_input_files(clip)
    page.get_by_text("stage.mp4").wait_for()
    press(page, "Start")
    page.wait_for_url("**job=**")
    job_id = page.url.partition("job=")[2]
    page.locator(".sr-progress").first.wait_for()
    page.screenshot(path=screenshots / "videos-running.png")
    page.goto("about:blank")
    until(lambda: enrolled.api.get(f"/api/jobs/{job_id}").json()["state"] == "done", "the job's end", JOB_SECONDS)
    open_page(page, enrolled, "Videos")
    after, before = page.locator(".recording video.after"), page.locator(".recording video.before")
    until(lambda: loaded(after) and loaded(before), "both videos to be loaded")
    # The timeline: away in the middle; a click jumps, and both pictures go there.
    bars = page.locator(f'.rows div[data-name="{MEMBER}"] i')
    assert bars.count() == 2
    plot = page.locator(".plot")
    area = plot.bounding_box()
    assert area is not None
    plot.click(position={"x": area["width"] * 0.85, "y": area["height"] / 2})
    until(lambda: abs(position(after) - 0.85 * 3) < 0.1, "the jump")
    until(lambda: abs(position(before) - position(after)) < 0.13, "the original to follow")
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "videos.png")
    page.get_by_role("button", name="Play", exact=True).click()
    until(lambda: position(after) > 0.85 * 3 + 0.2, "it to play")
    with page.expect_download() as download:
        press(page, "Download results")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 75
    assert json.loads(lines[0])["v"] == 1


def test_a_finished_video_is_drawn_anew(page: Page, enrolled: Dashboard, screenshots: Path) -> None:
    source = next(job for job in jobs(enrolled) if job["kind"] == "video" and job["state"] == "done")
    after, before = page.locator(".recording video.after"), page.locator(".recording video.before")
    open_page(page, enrolled, "Videos")
    until(lambda: loaded(before), "the player to have its size")
    press(page, "Render")
    until(lambda: jobs(enrolled)[0]["kind"] == "render", "the render on the list")
    spec = {"kind": "render", "style": "annotated", "job": source["id"], "member": source["spec"]["member"]}
    assert jobs(enrolled)[0]["spec"] == spec, "of whom the video was made"
    until(lambda: jobs(enrolled)[0]["state"] == "done", "its end", JOB_SECONDS)
    page.get_by_text("annotated · re-render").first.wait_for()
    page.locator(".stage.wiped").wait_for()
    # A fancam has another shape than the original: it is shown beside, not over it.
    spec = {"kind": "render", "style": "cutout", "fancam": "9:16", "job": source["id"]}
    assert enrolled.api.post("/api/jobs", json=spec).status_code == 201
    until(lambda: jobs(enrolled)[0]["state"] == "done", "the fancam's end", JOB_SECONDS)
    open_page(page, enrolled, "Videos")
    until(lambda: loaded(after) and after.evaluate("v => v.videoHeight > v.videoWidth"), "the upright picture")
    page.locator(".stage.beside").wait_for()
    page.screenshot(path=screenshots / "videos-fancam.png")


def test_a_running_job_is_cancelled(page: Page, enrolled: Dashboard, tmp_path: Path) -> None:
    open_page(page, enrolled, "Videos")
    page.locator('input[type="file"]').set_input_files(film(tmp_path / "long.mp4", 1000))
    press(page, "Start")
    until(lambda: jobs(enrolled)[0]["state"] == "running", "the job to run")
    job_id = jobs(enrolled)[0]["id"]
    press(page, "Cancel")
    until(lambda: jobs(enrolled)[0]["state"] == "cancelled", "the job to end")
    page.get_by_text("its files are gone").wait_for()
    press_first(page, "Delete")
    until(lambda: enrolled.api.get(f"/api/jobs/{job_id}").status_code == 404, "the job to be forgotten")


def press_first(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()
    settled(page)


def test_several_photos_are_downloaded_as_one_archive(
    page: Page, enrolled: Dashboard, astronaut: Path, tmp_path: Path, screenshots: Path
) -> None:
    other = tmp_path / "사진 2.jpg"
    with Image.open(astronaut) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    open_page(page, enrolled, "Images")
    page.locator('input[type="file"]').set_input_files([astronaut, other])
    press(page, "Find in photos")
    button = page.get_by_role("button", name="Download all as a zip")
    button.wait_for(timeout=JOB_SECONDS * 1000)
    pictures = page.locator("figure img")
    until(lambda: pictures.count() == 6, "six pictures")
    until(lambda: all(p.evaluate("image => image.naturalWidth") == 512 for p in pictures.all()), "them to be loaded")
    page.screenshot(path=screenshots / "images-several.png")
    with page.expect_download() as download:
        button.click()
    assert download.value.suggested_filename.startswith(f"{MEMBER}_")
    assert TOKEN not in download.value.url
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert {name.partition("/")[0] for name in archive.namelist() if "/" in name} == {"astronaut", "사진 2"}
        assert {name.rpartition("/")[2] for name in archive.namelist()} >= {"annotated.png", "cutout.png"}


def test_a_film_that_is_too_large_is_refused_before_it_is_sent(
    page: Page, enrolled: Dashboard, tmp_path: Path, screenshots: Path
) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(4_100_000_000)  # a hole: it takes no room
    open_page(page, enrolled, "Videos")
    page.get_by_text("Any file that FFmpeg reads, up to 4 GB").wait_for()
    page.locator('input[type="file"]').set_input_files(large)
    page.get_by_text("large.mp4 has 4.1 GB, and the service takes 4 GB: choose a smaller file.").wait_for()
    assert page.get_by_role("button", name="Start").is_disabled()
    page.screenshot(path=screenshots / "videos-too-large.png")


def test_a_refused_upload_says_why(page: Page, enrolled: Dashboard, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    open_page(page, enrolled, "Videos")
    page.locator('input[type="file"]').set_input_files(empty)
    before = len(jobs(enrolled))
    page.get_by_role("button", name="Start").click()
    page.get_by_text("empty.mp4 is empty; choose another file").wait_for()
    assert len(jobs(enrolled)) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_recording_shows_who_was_on_screen_when(
    page: Page, enrolled: Dashboard, tmp_path: Path, screenshots: Path, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    name = "0a1b2c3d_all_20261125T101500Z"
    folder = enrolled.folder / "recordings"
    folder.mkdir(exist_ok=True)
    shutil.copy(film(tmp_path / "clip.mp4", 75), folder / f"{name}.mp4")
    spans = {MEMBER: [(0, 25), (50, 75)], "rei": [(30, 70)], None: [(10, 40)]}
    lines = [
        {
            "v": 1,
            "pts": 100 + n / 25,
            "tracks": [
                {"name": who, "state": "tracked"} for who, all_ in spans.items() if any(a <= n < b for a, b in all_)
            ],
        }
        for n in range(75)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    open_page(page, enrolled, "Recordings")
    page.get_by_text("everybody, 25 November 2026, 10:15:00 UTC").click()
    settled(page)
    video = page.locator(".recording video.after")
    until(lambda: loaded(video), "the recording to be loaded")
    assert page.locator(".names span").all_inner_texts() == [f"{MEMBER}2.0 s", "rei1.6 s", "unknown1.2 s"]
    assert [row.locator("i").count() for row in page.locator(".rows div").all()] == [2, 1, 1]
    area = page.locator(".plot").bounding_box()
    assert area is not None
    page.locator(".plot").click(position={"x": area["width"] / 2, "y": 40})
    until(lambda: abs(position(video) - 1.5) < 0.1, "the jump")
    check_link(page, video, scheme)
    page.screenshot(path=screenshots / f"timeline-{scheme}.png")
    if scheme == "dark":
        press(page, "Delete")
        press(page, "Delete for good")
        until(lambda: not (folder / f"{name}.mp4").exists(), "the recording to be deleted")
