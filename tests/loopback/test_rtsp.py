"""RTSP sources against a real RTSP server: transports, credentials, faults and recovery."""

from __future__ import annotations

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from streamer.errors import SourceUnusable
from streamer.ingest import mark
from streamer.ingest.rtsp import RtspSource
from streamer.ingest.source import CLOSE_SECONDS
from tests.rtsp_camera import Camera
from tests.sources import Keeper, playing, reach, rises, take, until

TRANSPORTS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")


@pytest.fixture
def camera() -> Iterator[Camera]:
    with Camera(password="s3cret:word") as it:
        yield it


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_camera_is_watched(transport: Literal["tcp", "udp"], auth: Literal["basic", "digest"]) -> None:
    with Camera(password="s3cret", auth=auth) as camera:
        source = RtspSource(camera.url, transport=transport)
        with playing(source) as slot:
            frames = take(slot, 20)
            assert source.state.phase == "live"
            assert source.fps == pytest.approx(25, abs=1)
        assert source.state.phase == "ended"
    assert (frames[0].width, frames[0].height) == (640, 360)
    assert rises(frames)
    # The picture is the camera's, whole and in time: its mark reads, and was stamped not long ago.
    ages = [mark.read(frame.i420) for frame in frames]
    assert None not in ages
    assert all(a < b for a, b in pairwise(ages))  # type: ignore[operator]
    assert 0 <= mark.age_ms(ages[-1] or 0) < 30_000


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("break_it", "mend_it"),
    [
        (Camera.drop, None),
        (Camera.die, Camera.come_back),
        (Camera.stall, Camera.resume),
        (Camera.freeze, Camera.resume),
        (Camera.blank, Camera.resume),
    ],
    ids=["drop", "die", "stall", "freeze", "blank"],
)
def test_a_lost_camera_is_noticed_and_comes_back(
    camera: Camera,
    transport: Literal["tcp", "udp"],
    break_it: Callable[[Camera], None],
    mend_it: Callable[[Camera], None] | None,
) -> None:
    source, keeper = RtspSource(camera.url, transport=transport), Keeper()
    source.start(keeper)
    try:
        until(lambda: len(keeper.frames) > 5)
        break_it(camera)
        state = reach(source, "reconnecting")
        assert state.reason is not None
        assert "s3cret" not in state.reason
        noticed_at = time.monotonic()
        # Not a benchmark: the 5 s are what a user is promised, and nearly all of it is a time-out.
        assert noticed_at - keeper.frames[-1].captured_at < 5.0
        before = len(keeper.frames)
        if mend_it is not None:
            mend_it(camera)
        until(lambda: len(keeper.frames) > before + 5)
        assert source.state.phase == "live"
        assert source.state.reason is None
        assert [frame.index for frame in keeper.frames] == list(range(len(keeper.frames)))
        assert rises(keeper.frames)
    finally:
        source.close()


def test_the_next_attempt_is_announced(camera: Camera) -> None:
    source = RtspSource(camera.url)
    assert source.state.phase == "connecting"
    with playing(source) as slot:
        take(slot, 1)
        camera.die()
        until(lambda: source.state.retry_in_seconds is not None)
        first = source.state
        assert first.phase == "reconnecting"
        assert 0 <= (first.retry_in_seconds or 0) <= 5
        # Later attempts find the port closed, and say so.
        until(lambda: "refused the connection" in str(source.state.reason))
    assert source.state.phase == "ended"


def test_a_size_that_changes_mid_stream_is_followed(camera: Camera) -> None:
    with playing(RtspSource(camera.url)) as slot:
        first = take(slot, 3)
        camera.resize(512, 288)
        frames = list(first)
        until(lambda: frames.append(slot.get(10)) or frames[-1].width == 512)  # type: ignore[func-returns-value]
    assert (frames[0].width, frames[-1].height) == (640, 288)
    assert rises(frames)


def test_a_large_camera_is_scaled_down(camera: Camera) -> None:
    with playing(RtspSource(camera.url, max_size=(320, 320))) as slot:
        frame = take(slot, 1)[0]
    assert (frame.width, frame.height) == (320, 180)


@pytest.mark.parametrize("login", ["admin:wrong@", "somebody:s3cret:word@", ""])
@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_wrong_password_fails_clearly_and_is_tried_slowly(
    login: str, auth: Literal["basic", "digest"], caplog: pytest.LogCaptureFixture
) -> None:
    with Camera(password="s3cret:word", auth=auth) as camera:
        source = RtspSource(f"rtsp://{login}127.0.0.1:{camera.port}/cam")
        with playing(source):
            state = reach(source, "failed")
            assert "401" in str(state.reason)
            until(lambda: source.state.retry_in_seconds is not None)
            assert (source.state.retry_in_seconds or 0) > 1
    for secret in ("wrong", "s3cret", "somebody"):
        assert secret not in f"{state.reason}{source.describe()}{caplog.text}"


def test_a_wrong_path_fails_clearly(camera: Camera) -> None:
    source = RtspSource(camera.url + "2")
    with playing(source):
        assert "no such path (404)" in str(reach(source, "failed").reason)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_web_page_instead_of_a_camera_fails_clearly(transport: Literal["tcp", "udp"], tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        source = RtspSource(f"rtsp://u:s3cret@127.0.0.1:{server.server_port}/index.html", transport=transport)
        with playing(source):
            state = reach(source, "failed")
        server.shutdown()
        thread.join()
    assert re.search(r"is no camera: it answers", str(state.reason))
    assert "s3cret" not in str(state.reason)


def test_an_unknown_host_is_named_and_tried_again() -> None:
    source = RtspSource("rtsp://u:s3cret@no-such-camera.invalid/cam")
    with playing(source):
        state = reach(source, "reconnecting")
    assert "unknown host no-such-camera.invalid" in str(state.reason)
    assert "s3cret" not in str(state.reason)


def test_a_closed_port_is_tried_again() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        source = RtspSource(f"rtsp://127.0.0.1:{taken.getsockname()[1]}/cam")
        with playing(source):
            assert "refused the connection" in str(reach(source, "reconnecting").reason)


def test_a_server_that_never_answers_is_tried_again() -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        source = RtspSource(f"rtsp://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/cam")
        with playing(source):
            assert "gives no answer" in str(reach(source, "reconnecting").reason)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cam",
        "http://u:s3cret@h/",
        "rtsp://",
        "rtsp:///cam",
        "rtsp://h:99999/",
        "rtsp://h/a b",
        "file:///etc/hosts",
        "rtsp://u:my s3cret@h/cam",
        "rtsp://u:p@ss@w/s3cret@h:1/cam",
        "rtsp://u?s3cret@h:1/cam",
        "rtsp://u#s3cret@h:1/cam",
    ],
)
def test_what_is_no_rtsp_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(SourceUnusable, match="is no RTSP address") as caught:
        RtspSource(url)
    assert "s3cret" not in str(caught.value)


def test_a_scheme_in_capitals_is_one(camera: Camera) -> None:
    source = RtspSource(camera.url.replace("rtsp://", "RTSP://"))
    with playing(source):
        reach(source, "live")


def test_a_source_says_what_it_is_without_its_password(camera: Camera) -> None:
    source = RtspSource(camera.url, transport="udp")
    assert source.describe() == {
        "kind": "rtsp",
        "url": f"rtsp://***@127.0.0.1:{camera.port}/cam",
        "transport": "udp",
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_closing_is_bounded_while_the_camera_hangs_and_leaves_nothing(
    camera: Camera, transport: Literal["tcp", "udp"]
) -> None:
    handles = len(os.listdir("/proc/self/fd"))
    source = RtspSource(camera.url, transport=transport)
    with playing(source) as slot:
        take(slot, 3)
        camera.freeze()
        began = time.monotonic()
        source.close()
        assert time.monotonic() - began < CLOSE_SECONDS + 0.5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source-")]
    camera.drop()
    camera.resume()
    until(lambda: camera.watchers == 0)
    until(lambda: len(os.listdir("/proc/self/fd")) <= handles)


def test_closing_is_bounded_while_connecting() -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        source = RtspSource(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam")
        with playing(source):
            connection, _ = silent.accept()  # the source is inside the library now, waiting for an answer
            with connection:
                began = time.monotonic()
                source.close()
                assert time.monotonic() - began < CLOSE_SECONDS + 0.5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source-")]


def test_a_killed_or_stopped_camera_process_is_noticed() -> None:
    command = [sys.executable, "-m", "tests.rtsp_camera", "--size", "640x360", "--fps", "25", "--port"]

    def start(port: int) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen([*command, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().split()[1]

    def end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    process, url = start(0)
    port = int(url.split(":")[-1].split("/")[0])
    source, keeper = RtspSource(url), Keeper()
    try:
        source.start(keeper)
        until(lambda: len(keeper.frames) > 3)
        end(process)
        reach(source, "reconnecting")
        process, _ = start(port)
        before = len(keeper.frames)
        until(lambda: len(keeper.frames) > before + 3)
        process.send_signal(signal.SIGSTOP)
        reach(source, "reconnecting")
        process.send_signal(signal.SIGCONT)
        before = len(keeper.frames)
        until(lambda: len(keeper.frames) > before + 3)
        assert rises(keeper.frames)
    finally:
        source.close()
        end(process)
