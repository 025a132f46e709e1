"""Bodies of the HTTP API: what may be sent, and what comes back."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from streamer.egress.presence import Presences
from streamer.tracks import Style

SOURCE_KINDS = Literal["rtsp", "file", "demo", "whip"]


def _blank_is_none(text: str | None) -> str | None:
    return text.strip() or None if text is not None else None


Name = Annotated[str | None, Field(max_length=100), AfterValidator(_blank_is_none)]
Phrase = Annotated[str | None, Field(max_length=100), AfterValidator(_blank_is_none)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answer(BaseModel):
    # An answer may carry more than is promised here: a source describes itself.
    model_config = ConfigDict(extra="allow")


class SourceSpec(_Body):
    """Where frames come from. `rtsp` needs `url`, `file` needs `path` (on the service's machine)."""

    kind: SOURCE_KINDS
    url: Annotated[str, Field(max_length=2000)] | None = Field(None, description="rtsp://user:password@camera/path")
    path: Annotated[str, Field(max_length=4000)] | None = Field(None, description="A video file, absolute path.")
    loop: bool | None = Field(None, description="Files: start again at the end. The demo always does.")
    transport: Literal["tcp", "udp"] | None = Field(None, description="RTSP: how media travels; tcp if left out.")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        allowed = {"rtsp": {"url", "transport"}, "file": {"path", "loop"}, "demo": {"loop"}, "whip": set[str]()}
        given = {key for key in ("url", "path", "loop", "transport") if getattr(self, key) is not None}
        for key in sorted(given - allowed[self.kind]):
            raise ValueError(f"{key!r} does not belong to a source of kind {self.kind!r}")
        if self.kind == "rtsp":
            _check_camera_url(self.url)
        if self.kind == "file" and not self.path:
            raise ValueError("a source of kind 'file' needs 'path', a video file on the service's machine")
        return self

    def given(self) -> dict[str, Any]:
        """The source as `Streams.create` takes it: only the keys that were given."""
        return self.model_dump(exclude_none=True)


def _check_camera_url(url: str | None) -> None:
    # Only these: the library behind opens files and other protocols by URL as well, which is not what a camera is.
    if not url:
        raise ValueError("a source of kind 'rtsp' needs 'url', such as rtsp://camera.local:554/stream")
    try:
        parts = urlsplit(url)
        ok = parts.scheme.lower() in ("rtsp", "rtsps") and parts.hostname is not None and parts.port != 0
    except ValueError:
        ok = False
    if not ok:
        raise ValueError(
            "a camera's url looks like rtsp://camera.local:554/stream (rtsp or rtsps; user:password@ before the host)"
        )


class StreamSpec(_Body):
    """A stream to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"source": {"kind": "demo"}},
                {"source": {"kind": "rtsp", "url": "rtsp://user:password@camera.local/live"}, "member": "wonyoung"},
                {"source": {"kind": "file", "path": "/videos/stage.mp4", "loop": True}, "style": "cutout"},
                {"source": {"kind": "whip"}, "member": "yujin", "object": "shirt"},
            ]
        },
    )

    source: SourceSpec
    member: Name = Field(None, description="Whom to follow; left out or null: everybody.")
    object: Phrase = Field(None, description="An object on that person (shirt, hair); left out or null: the person.")
    style: Style = "annotated"


class StreamPatch(_Body):
    """What to change, live. A key that is left out stays; `null` for `member` or `object` clears it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"member": "rei"}, {"object": "hair", "style": "overlay"}, {"member": None}]},
    )

    member: Name = None
    object: Phrase = None
    style: Style = "annotated"

    def given(self) -> dict[str, Any]:
        """Only the keys that were sent, `null` among them."""
        return {key: getattr(self, key) for key in self.model_fields_set}


class SourceStateInfo(_Answer):
    phase: Literal["connecting", "live", "reconnecting", "ended", "failed"]
    reason: str | None = None
    retry_in_seconds: float | None = None


class SourceInfo(_Answer):
    """The source as it was asked for, without its password."""

    kind: SOURCE_KINDS
    state: SourceStateInfo


class VisionInfo(_Answer):
    state: str = Field(examples=["ready"], description="ready, starting, restarting, stalled or off")
    notice: str | None = Field(None, description="What the picture says while vision is not ready.")


class Fps(_Answer):
    """Frames a second over the last two seconds."""

    source: float = Field(alias="in", description="Decoded.")
    vision: float = Field(description="Through the vision worker.")
    out: float = Field(description="Rendered and encoded.")


class Percentiles(_Answer):
    p50: float
    p95: float


class TrackInfo(_Answer):
    id: int
    name: str | None
    similarity: float | None
    state: Literal["tracked", "lost"] = Field(description="With a mask on this frame, or without (then maybe a face).")
    box: list[float] = Field(description="x0, y0, x1, y1 in pixels")
    face: list[float] | None


class RecordingState(_Answer):
    """A recording that runs, or the last state of one that ended."""

    id: str = Field(examples=["a1b2c3d4_wonyoung_20261122T101500Z"])
    started_at: datetime.datetime
    duration_seconds: float
    bytes: int
    ended_reason: str | None = Field(
        None, description="`stopped`, or why it ended by itself (disk full, source over); null while it runs."
    )


class StreamInfo(_Answer):
    """A stream as it is now."""

    id: str
    source: SourceInfo
    member: str | None
    object: str | None
    style: Style
    created_at: datetime.datetime
    size: tuple[int, int] | None = Field(description="Width and height in pixels; null before the first frame.")
    engine: str
    vision: VisionInfo
    fps: Fps
    dropped: dict[str, int] = Field(description="Frames left out since the start, by queue; newest wins.")
    viewers: int
    latency_ms: dict[str, Percentiles] = Field(description="By stage, over the last 300 frames.")
    tracks: list[TrackInfo]
    recording: RecordingState | None
    encoder: str | None


class RecordingInfo(BaseModel):
    """A recording on disk."""

    id: str = Field(examples=["a1b2c3d4_wonyoung_20261122T101500Z"])
    bytes: int
    started_at: datetime.datetime | None
    running: bool = Field(description="It is being written now.")
    url: str
    sidecar_url: str | None
    timeline_url: str | None = Field(description="Who was on screen when.")
    poster_url: str


class PresenceInfo(BaseModel):
    """One person's time on screen."""

    name: str | None = Field(description="null: people without a name, taken together")
    seconds: float
    intervals: list[tuple[float, float]] = Field(
        description="From, to, in seconds of the video. Absences of half a second and less are left out."
    )


class Timeline(BaseModel):
    """Who is in a video when."""

    duration_seconds: float
    frames: int
    people: list[PresenceInfo] = Field(description="Longest first; those without a name last.")

    @classmethod
    def of(cls, found: Presences) -> Self:
        """Of what a sidecar says."""
        people = [PresenceInfo(name=p.name, seconds=p.seconds, intervals=list(p.intervals)) for p in found.people]
        return cls(duration_seconds=found.duration_seconds, frames=found.frames, people=people)


class Limits(BaseModel):
    """How much may be uploaded in one request. Larger ones are refused with 413."""

    photo_bytes: int = Field(description="One photo of a member.")
    photos: int = Field(description="Photos of a member.")
    photos_bytes: int = Field(description="Photos of a member together, with the rest of the form.")
    archive_bytes: int = Field(description="An archive of members.")
    job_photo_bytes: int = Field(description="One photo of a job.")
    job_files: int = Field(description="Photos of a job.")
    job_bytes: int = Field(description="Files of a job together.")


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    version: str
    limits: Limits


class Readiness(BaseModel):
    ready: bool
    reasons: list[str] = Field(description="What is missing; empty when ready.")
    engine: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(
        examples=["urn:streamer:problem:member-unknown"],
        description="What kind of trouble. What is not there is told by what it is: stream-, session-, track-, "
        "recording-, member-, photo-, job- or file-unknown.",
    )
    title: str = Field(examples=["Member unknown"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no member 'rie'; known: rei, yujin"])
