"""`open_stream` of the Python API on a real RTSP server."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, Literal

import pytest

from streamer import IdentityAwareSegmentation
from streamer.errors import MemberUnknown, SourceUnavailable, SourceUnusable
from streamer.ingest import mark
from streamer.ingest.demo_cast import ASTRONAUT
from streamer.offline import watching as watching_module
from streamer.vision.models import ModelStore
from tests.rtsp_camera import Camera
from tests.sources import until

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def segmentation(
    tmp_path_factory: pytest.TempPathFactory, model_store: ModelStore
) -> Iterator[IdentityAwareSegmentation]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "models").symlink_to(model_store.root, target_is_directory=True)
    with IdentityAwareSegmentation(data_dir=folder) as made:
        made.add_member("eileen", ASTRONAUT.path)
        yield made


@pytest.fixture
def camera() -> Iterator[Camera]:
    with Camera(password="s3cret:word") as it:
        yield it


def watching() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("source-")]


def opened(segmentation: IdentityAwareSegmentation, url: str) -> Any:
    return closing(segmentation.open_stream(url, "eileen"))  # type: ignore[type-var]


def test_frames_come_newest_first_and_closing_early_leaves_nothing(
    segmentation: IdentityAwareSegmentation, camera: Camera
) -> None:
    with opened(segmentation, camera.url) as stream:
        assert watching() == []  # nothing is opened before the first `next`
        frames = []
        for found in stream:
            frames.append(found)
            time.sleep(0.1)  # slower than the camera: what is missed is dropped, not queued
            if len(frames) == 10:
                break
        assert watching() == ["source-rtsp"]
    assert watching() == []
    until(lambda: camera.watchers == 0)
    assert all(a.index < b.index and a.pts_seconds < b.pts_seconds for a, b in pairwise(frames))
    assert frames[-1].dropped > 0
    missed = frames[-1].index + 1 - len(frames)
    assert missed <= frames[-1].dropped, "what was missed is counted, and what came while the last one was worked on"
    ages = [mark.age_ms(mark.read(found.frame.i420) or 0) for found in frames]
    assert ages[-1] < ages[0] + 1000, "delay does not build up"
    assert frames[0].image.shape == (360, 640, 3)
    assert not any(found.seen for found in frames)


def test_an_iterator_that_is_thrown_away_closes_too(segmentation: IdentityAwareSegmentation, camera: Camera) -> None:
    stream = segmentation.open_stream(camera.url, "eileen")
    next(stream)
    del stream
    gc.collect()
    assert watching() == []
    until(lambda: camera.watchers == 0)


def test_one_that_was_never_begun_opens_nothing(segmentation: IdentityAwareSegmentation, camera: Camera) -> None:
    with opened(segmentation, camera.url):
        pass
    with pytest.raises(MemberUnknown):
        segmentation.open_stream(camera.url, "zoe")
    assert (watching(), camera.watchers) == ([], 0)


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_wrong_password_is_one_clear_error(
    segmentation: IdentityAwareSegmentation, auth: Literal["basic", "digest"], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Camera(password="s3cret:word", auth=auth) as camera,
        opened(segmentation, f"rtsp://admin:wr0ng@127.0.0.1:{camera.port}/cam") as stream,
    ):
        began = time.monotonic()
        with pytest.raises(SourceUnusable, match="refused the credentials") as caught:
            next(stream)
        assert time.monotonic() - began < 10
        assert watching() == []
        with pytest.raises(StopIteration):
            next(stream)
    # The whole of what an interpreter prints: no second exception beside it ("The above exception was …").
    printed = "".join(traceback.format_exception(caught.value))
    assert "exception was" not in printed
    said = printed.replace("admin:wr0ng@127.0.0.1:{camera.port}", "") + caplog.text  # quoted from this file
    assert "\n" not in str(caught.value)
    assert f"rtsp://***@127.0.0.1:{camera.port}/cam" in str(caught.value)
    for secret in ("wr0ng", "s3cret"):
        assert secret not in said


def test_a_camera_that_falls_silent_ends_the_stream_with_its_reason(
    segmentation: IdentityAwareSegmentation, camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "STALL_SECONDS", 6.0)
    with opened(segmentation, camera.url) as stream:
        next(stream)
        camera.freeze()
        with pytest.raises(SourceUnavailable) as caught:
            for _ in stream:
                pass
    assert watching() == []
    assert "s3cret" not in str(caught.value)
    camera.resume()


def test_a_camera_that_comes_back_goes_on(segmentation: IdentityAwareSegmentation, camera: Camera) -> None:
    with opened(segmentation, camera.url) as stream:
        before = next(stream)
        camera.drop()
        after = next(found for found in stream if found.pts_seconds > before.pts_seconds + 1)
    assert after.index > before.index
