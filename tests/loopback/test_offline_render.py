"""Renders that promise to hide somebody: what they do where the sidecar says nothing, or is another clip's."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.errors import SourceUnusable
from streamer.offline.cast import Cast
from streamer.offline.film import Look
from streamer.offline.render import RenderOrder, render
from streamer.offline.sight import Sight
from streamer.offline.video import VideoOrder, process
from streamer.tracks import Style
from tests import media

PRIVATE: tuple[Style, ...] = ("hide", "only")


def told(sight: Sight, clip: Path, **options: object) -> Path:
    """The sidecar of a clip."""
    out = clip.with_name(f"{clip.stem}-seen.mp4")
    process(VideoOrder(clip, out, Cast(("rei",)), Look("none"), **options), sight)  # type: ignore[arg-type]
    return out.with_suffix(".jsonl")


def cut(sidecar: Path, lines: int) -> Path:
    """A sidecar with the first lines of another."""
    short = sidecar.with_name("short.jsonl")
    short.write_text("".join(sidecar.read_text().splitlines(keepends=True)[:lines]))
    return short


def sharpness(path: Path) -> list[float]:
    """Of each picture of `media.numbered` but the first: the step in its middle, as a share of what it is there."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    rows = [picture[: picture.shape[0] * 2 // 3].astype(int) for picture in pictures]
    steps = [float(np.abs(np.diff(each, axis=0)).max()) for each in rows]
    return [step / (4 + 6 * index) for index, step in enumerate(steps)][1:]


def made(sight: Sight, clip: Path, sidecar: Path, style: Style) -> list[float]:
    """How sharp the pictures of a render are."""
    out = clip.with_name("again.mp4")
    render(RenderOrder(clip, sidecar, out, Look(style)), sight.settings.video)
    return sharpness(out)


@pytest.mark.parametrize("style", PRIVATE)
def test_a_picture_without_a_line_is_frosted_as_a_whole(sight: Sight, tmp_path: Path, style: Style) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    sidecar = told(sight, clip)
    assert min(made(sight, clip, sidecar, style)) > 0.7
    sharp = made(sight, clip, cut(sidecar, 6), style)
    assert len(sharp) == 9
    assert min(sharp[:5]) > 0.7 > 0.3 > max(sharp[5:])
    assert min(made(sight, clip, cut(sidecar, 6), "annotated")) > 0.7


@pytest.mark.parametrize("style", PRIVATE)
@pytest.mark.parametrize("unsure", [{"engine": "none"}, {"between_shots": True}])
def test_a_line_that_tells_nobody_apart_frosts_the_picture(
    sight: Sight, tmp_path: Path, style: Style, unsure: dict[str, object]
) -> None:
    """In a recording: of the time in which vision was away. In both: while one shot fades into the next."""
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    sidecar = told(sight, clip)
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    for line in lines[:4]:
        line.update(tracks=[], **unsure)
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sharp = made(sight, clip, sidecar, style)
    assert max(sharp[:3]) < 0.3 < 0.7 < min(sharp[3:])


@pytest.mark.parametrize("style", [*PRIVATE, "annotated"])
def test_the_sidecar_of_a_clip_of_another_size_is_refused(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "other.mp4", size=(320, 180)))
    clip = media.video(tmp_path / "in.mp4", size=(480, 270))
    with pytest.raises(SourceUnusable, match=r"of 320x180.* 480x270.*do not belong together"):
        made(sight, clip, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()
    # An odd side is cut: lines and pictures are of the size as shown.
    odd = media.video(tmp_path / "odd.mkv", size=(321, 181), pixel_format="yuv444p")
    assert made(sight, odd, told(sight, odd), "hide")
    turned = media.rotated(tmp_path / "turned.mp4", 90)
    assert made(sight, turned, told(sight, turned), "hide")


@pytest.mark.parametrize("style", PRIVATE)
def test_a_sidecar_with_more_lines_than_the_clip_has_pictures(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "other.mp4", times_ms=range(0, 800, 40)))
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    with pytest.raises(SourceUnusable, match=r"20 lines.* 10 pictures.*do not belong together"):
        made(sight, clip, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()
    assert len(made(sight, clip, sidecar, "annotated")) == 9


@pytest.mark.parametrize("style", [*PRIVATE, "annotated"])
def test_a_sidecar_of_other_times_is_refused(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "long.mp4", times_ms=range(0, 4000, 40)), from_seconds=3.0)
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 2000, 40))
    with pytest.raises(SourceUnusable, match=r"not one line of it .*do not belong together"):
        made(sight, clip, sidecar, style)
    # Within the same seconds, but between the pictures.
    shifted = media.video(tmp_path / "shifted.mp4", times_ms=[0, *range(60, 4000, 40)])
    with pytest.raises(SourceUnusable, match=r"not one line of it .*do not belong together"):
        made(sight, shifted, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()
