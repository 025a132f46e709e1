"""What may be asked for, and the command line that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamer.jobs.command import Paths, arguments
from streamer.jobs.job import JobSpec
from streamer.jobs.store import new_job

PATHS = Paths(Path("/in/clip.mkv"), Path("/in/clip.jsonl"), Path("/job/work"))


def line(resume: bool = False, **spec: Any) -> list[str]:
    job = new_job("a", JobSpec.model_validate(spec).given(), ())
    if resume:
        job = type(job)(**{field: getattr(job, field) for field in job.__slots__} | {"resume": True})
    args = arguments(job, PATHS, Path("/data"), Path("/job/config.yaml"), "lite")
    assert args[:3] == ["--data-dir=/data", "--config=/job/config.yaml", "--engine=lite"]
    assert args[-1] == "--progress-json"
    return args[3:-1]


def test_photos() -> None:
    assert line(kind="image", member="rei") == ["image", "/in/clip.mkv", "--member=rei", "--out=/job/work"]
    full = line(kind="image", member=["rei"], object="red scarf", prompt="box", box="1,2.5,30,40")
    assert full[2:-1] == ["--member=rei", "--object=red scarf", "--prompt=box", "--box=1,2.5,30,40"]


def test_a_video() -> None:
    args = line(kind="video", member=["rei", "--config"], every=2, style="cutout", fancam="9:16", **{"from": 1.5})
    assert args == [
        "video",
        "/in/clip.mkv",
        "--member=rei",
        "--member=--config",
        "--every=2",
        "--from=1.5",
        "--style=cutout",
        "--fancam=9:16",
        "--out=/job/work/video.mp4",
        "--sidecar=/job/work/results.jsonl",
    ]
    assert line(kind="video", member="rei", transparent="true", resume=True)[-4:] == [
        "--out=/job/work/video.webm",
        "--sidecar=/job/work/results.jsonl",
        "--transparent",
        "--resume",
    ]


def test_a_render() -> None:
    args = line(kind="render", recording="r", style="only", fancam="1:1")
    assert args == [
        "render",
        "/in/clip.mkv",
        "/in/clip.jsonl",
        "--style=only",
        "--fancam=1:1",
        "--out=/job/work/video.mp4",
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "dance"}, "kind"),
        ({"kind": "image"}, "one member"),
        ({"kind": "image", "member": ["a", "b"]}, "one member"),
        ({"kind": "image", "member": "a", "style": "cutout"}, "'style' does not belong"),
        ({"kind": "video"}, "one member or more"),
        ({"kind": "video", "member": "a", "box": "1,2,3,4"}, "'box' does not belong"),
        ({"kind": "video", "member": "a", "from": 3, "to": 3}, "'from' must lie before 'to'"),
        ({"kind": "video", "member": "a", "from": "nan"}, "from"),
        ({"kind": "video", "member": "a", "every": 0}, "every"),
        ({"kind": "video", "member": "a", "fancam": "16:0"}, "WIDTH:HEIGHT"),
        ({"kind": "video", "member": "a", "style": "sepia"}, "style"),
        ({"kind": "video", "member": "a", "more": 1}, "more"),
        ({"kind": "image", "member": "a", "box": "1,2,3"}, "box"),
        ({"kind": "image", "member": "a", "box": "5,2,3,4"}, "x0 < x1"),
        ({"kind": "image", "member": "a", "box": "1,2,3,4", "prompt": "text"}, "box prompt"),
        ({"kind": "video", "member": "a", "transparent": True, "style": "hide"}, "cut-out"),
        ({"kind": "render"}, "names a 'recording' or the 'job'"),
        ({"kind": "render", "recording": "r", "job": "j"}, "names a 'recording' or the 'job'"),
    ],
)
def test_what_does_not_fit_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        JobSpec.model_validate(spec)
    assert words in str(refusal.value)
