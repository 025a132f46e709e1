"""What the service and the vision worker say to each other. Small, picklable; pictures go through shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.tracks import FrameResult, Target
from streamer.vision.known import Known


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Make a processor for a stream and attach its memory."""

    stream_id: str
    memory: str
    capacity: int
    target: Target
    first_track_id: int
    """Track ids go on where a worker before this one left off: an id never means two people."""


@dataclass(frozen=True, slots=True)
class ChangeMemory:
    """The stream's pictures grew; attach the new memory, keep the processor."""

    stream_id: str
    memory: str
    capacity: int


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Free the stream's processor and memory."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class ChangeTarget:
    """Follow another member or object from the next frame on."""

    stream_id: str
    target: Target


@dataclass(frozen=True, slots=True)
class ChangeKnown:
    """The gallery as it is now, for every stream."""

    known: Known


@dataclass(frozen=True, slots=True)
class Step:
    """Process the picture in the stream's memory. Answered by `Stepped`."""

    stream_id: str
    width: int
    height: int
    frame_index: int
    pts_seconds: float
    captured_at: float


@dataclass(frozen=True, slots=True)
class Stepped:
    """Answer to `Step`. The label map, if any, lies beside the picture."""

    stream_id: str
    result: FrameResult | None
    has_labels: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """Find and embed the faces of an encoded photo that lies in a shared-memory block. Answered by `Answer`."""

    request_id: int
    block: str
    size: int


@dataclass(frozen=True, slots=True)
class CheckPhrase:
    """Can the engine answer this object prompt? Answered by `Answer`."""

    request_id: int
    phrase: str


@dataclass(frozen=True, slots=True)
class TellStory:
    """What is kept about a track? Answered by `Answer` with a `TrackStory`."""

    request_id: int
    stream_id: str
    track_id: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to `ReadPhoto`, `CheckPhrase` or `TellStory`: `value`, or the error to raise at the asker."""

    request_id: int
    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Loading:
    """Models are being loaded; what is being done now ("warming up 3/20"). Also says that the worker is alive."""

    doing: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Models are loaded."""

    engine: str
    model_id: str | None
    """Of the face embeddings; None: this engine names nobody by face."""
    providers: tuple[str, ...]
    """Execution providers that the sessions really use."""
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Models cannot be loaded; the worker ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End the worker."""
