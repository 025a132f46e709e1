"""What a job is: what was asked for, what it works on, how far it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from streamer.tracks import Style

Kind = Literal["image", "video", "render"]
State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "interrupted")
"""States in which nothing happens any more by itself."""

_RATIO = re.compile(r"[1-9]\d{0,3}:[1-9]\d{0,3}")
_ONLY_FOR: dict[str, tuple[Kind, ...]] = {
    "object": ("image", "video"),
    "prompt": ("image",),
    "box": ("image",),
    "every": ("video",),
    "from_seconds": ("video",),
    "to_seconds": ("video",),
    "style": ("video", "render"),
    "fancam": ("video", "render"),
    "transparent": ("video", "render"),
    "recording": ("video", "render"),
    "job": ("render",),
}


def _many(value: Any) -> Any:
    """One name is a list of one; empty ones are none."""
    values = value if isinstance(value, list) else [value]
    return [name.strip() if isinstance(name, str) else name for name in values if name not in (None, "")]


def _numbers(value: Any) -> Any:
    """A form sends "x0,y0,x1,y1"."""
    return value.split(",") if isinstance(value, str) else value


def _proper(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError("a box is x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1")
    return box


def _ratio(text: str) -> str:
    if not _RATIO.fullmatch(text):
        raise ValueError("a fancam's format is WIDTH:HEIGHT, such as 9:16")
    return text


Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Pixel = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Box = Annotated[tuple[Pixel, Pixel, Pixel, Pixel], BeforeValidator(_numbers), AfterValidator(_proper)]


class JobSpec(BaseModel):
    """What to do. Files are sent beside it, or it names a `recording`, or for a render the `job` of a video."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"kind": "video", "recording": "a1b2c3d4_all_20261125T101500Z", "member": ["rei"], "style": "cutout"},
                {"kind": "render", "job": "0123456789abcdef", "style": "only", "fancam": "9:16"},
            ]
        },
    )

    kind: Kind
    member: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], BeforeValidator(_many)] = Field(
        [],
        max_length=16,
        description="Whom to look for: one for photos, one or more for a video. Renders: whom to show or hide; left "
        "out: those of the job, of a recording everybody whom its results name.",
    )
    object: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="An object on that person: shirt, hair."
    )
    prompt: Literal["box", "text"] | None = Field(None, description="Photos: what seeds the mask; box if left out.")
    box: Box | None = Field(None, description="Photos: a drawn box in pixels instead of the face's own.")
    every: Annotated[int, Field(ge=1, le=60)] | None = Field(
        None, description="Videos: look at every Nth frame, propagate between; the output has every frame."
    )
    from_seconds: Seconds | None = Field(None, alias="from", description="Videos: start here.")
    to_seconds: Seconds | None = Field(None, alias="to", description="Videos: end here.")
    style: Style | None = Field(None, description="annotated if left out")
    fancam: Annotated[str, AfterValidator(_ratio)] | None = Field(
        None, description="Crop of this format that follows the member: 9:16."
    )
    transparent: bool = Field(False, description="The member alone, on nothing: a video with an alpha channel.")
    recording: Annotated[str, Field(max_length=300)] | None = Field(None, description="Work on this recording.")
    job: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Renders: draw the video of this finished job anew, from its results."
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        for key, kinds in _ONLY_FOR.items():
            if self.kind not in kinds and getattr(self, key) not in (None, False, []):
                shown = key.removesuffix("_seconds")
                raise ValueError(f"{shown!r} does not belong to a job of kind {self.kind!r}")
        if self.kind == "image" and len(self.member) != 1:
            raise ValueError("photos are searched for one member; name it in 'member'")
        if self.kind == "video" and not self.member:
            raise ValueError("name one member or more in 'member'")
        if self.kind == "render" and (self.recording is None) == (self.job is None):
            raise ValueError("a render names a 'recording' or the 'job' of a finished video")
        if self.transparent and self.style not in (None, "cutout"):
            raise ValueError(f"a transparent video is a cut-out: style {self.style!r} does not fit")
        if self.box is not None and self.prompt == "text":
            raise ValueError("a drawn box is a box prompt: leave 'prompt' out")
        if None not in (self.from_seconds, self.to_seconds) and not self.from_seconds < self.to_seconds:  # type: ignore[operator]
            raise ValueError("'from' must lie before 'to'")
        return self

    def given(self) -> dict[str, Any]:
        """Only what was said, as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"kind": self.kind}


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was uploaded for a job."""

    file: str
    """Its name in the job's folder `input`: a random id with the given ending."""
    name: str
    """As it was called where it came from, fit to be shown."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job made."""

    name: str
    """Path in the job's folder `output`, with slashes."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as its process said last."""

    done: int = 0
    total: int | None = None
    fps: float | None = None
    eta_seconds: float | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is stored. Times are seconds since the epoch, UTC."""

    id: str
    kind: Kind
    spec: dict[str, Any]
    """As `JobSpec.given`."""
    inputs: tuple[Input, ...]
    state: State
    created_at: float
    reason: str | None = None
    """Why it failed or was interrupted, in one line."""
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    """How often its process was started."""
    resume: bool = False
    """The next start goes on where the last one ended."""
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    """What the command said about its result."""
    outputs: tuple[Output, ...] = field(default=())
    pid: int | None = None
    """Of the process that works on it, with `pid_started`, which tells it from a later one of the same number."""
    pid_started: float | None = None
