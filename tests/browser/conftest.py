"""A real Chromium on the real dashboard of the real service, all started here and ended by their process ids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from streamer.vision.models import ModelStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[dev]'")

_FAILED = pytest.StashKey[bool]()
TOKEN = "a-token-of-the-browser-tests"
START_SECONDS = 180.0
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
]
# Read at import: a fixture that every test has takes the variables of this name away.
SCREENSHOTS = Path(os.environ.get("STREAMER_SCREENSHOTS") or Path(__file__).parent / "screenshots")


@dataclass
class Dashboard:
    """A running `streamer up` with the demo playing."""

    url: str
    """The live page of the demo's stream."""
    api: httpx.Client
    """The service, with its token."""
    demo: str
    """Id of the demo's stream."""
    folder: Path
    """The service's data folder."""


@pytest.fixture(scope="package")
def chromium_path() -> str:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("chromium is missing (as root: apt-get install chromium)")
    return path


@pytest.fixture(scope="package")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of one person, as a user would upload it."""
    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    Image.fromarray(photos.astronaut()).save(path)
    return path


@pytest.fixture(scope="package")
def webcam_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake webcam sees: the astronaut, 1280x720 at 30 fps, keeping still, so that pictures can be compared."""
    path = tmp_path_factory.mktemp("webcam") / "webcam.y4m"
    portrait = Image.fromarray(photos.astronaut()).resize((720, 720), Image.Resampling.LANCZOS)
    with path.open("wb") as film:
        film.write(b"YUV4MPEG2 W1280 H720 F30:1 Ip A1:1 C420jpeg\n")
        picture = Image.new("RGB", (1280, 720), (70, 80, 95))
        picture.paste(portrait, (280, 0))
        luma, blue, red = (np.asarray(plane) for plane in picture.convert("YCbCr").split())
        for _ in range(2):
            film.write(b"FRAME\n" + luma.tobytes() + blue[::2, ::2].tobytes() + red[::2, ::2].tobytes())
    return path


@pytest.fixture(scope="package")
def dashboard(
    model_store: ModelStore, chromium_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "models").symlink_to(model_store.root, target_is_directory=True)
    port, page_port = _free_port(), _free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    command = [sys.executable, "-m", "streamer", "--data-dir", str(folder), "up", "--no-browser", "--source", "demo"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--dashboard-port", str(page_port)],
        env=env | {"STREAMER_TOKEN": TOKEN, "STREAMER_JOBS__PRIORITY": "normal"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    output = Output(process)
    try:
        url = output.line_with("playing on ", START_SECONDS)
        (demo,) = parse_qs(urlsplit(url).query)["stream"]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, trust_env=False) as api:
            yield Dashboard(url, api, demo, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        output.close()


class Output:
    """The output of a process, read by a thread of its own so that the process never waits for a full pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="up-output", daemon=True)
        self._thread.start()

    def line_with(self, prefix: str, seconds: float) -> str:
        """What follows `prefix` in the first line that starts with it."""

        def found() -> str | None:
            return next((line[len(prefix) :].strip() for line in self._lines if line.startswith(prefix)), None)

        with self._more:
            self._more.wait_for(lambda: found() or self._process.poll() is not None, seconds)
            line = found()
        if line is None:
            pytest.fail(f"`streamer up` did not get as far as {prefix!r}:\n" + "".join(self._lines[-40:]))
        return line

    def close(self) -> None:
        """After the process ended."""
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="package")
def browser(chromium_path: str, webcam_film: Path) -> Iterator[Browser]:
    flags = [*CHROMIUM_FLAGS, f"--use-file-for-fake-video-capture={webcam_film}"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path, args=flags)
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh tab; whatever it complained about on its console fails the test. A failing test leaves a picture."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(30_000)
    yield page
    if request.node.stash.get(_FAILED, False):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"failed-{request.node.name}.png")
    context.close()
    assert complaints == []


def _is_complaint(message: ConsoleMessage) -> bool:
    """An error, but not that of ending a session whose stream was ended a moment before, of a refused upload, or of a
    link that a test spoilt."""
    url = message.location.get("url", "")
    expected = {"404": ("/whep/", "/whip/"), "422": ("/api/jobs",), "401": ("sig=x",)}
    known = any(status in message.text and way in url for status, ways in expected.items() for way in ways)
    return message.type == "error" and not known


@pytest.fixture(scope="package")
def screenshots() -> Path:
    """Where the pictures of the README are put."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
