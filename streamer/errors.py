"""Every error that this project raises on purpose.

StreamerError
├── SourceError             the input: camera, file, publisher
│   ├── SourceUnavailable   may come back by itself (network, camera off): retried with back-off
│   └── SourceUnusable      will not get better by waiting (no video in it, wrong password)
├── VisionError             models and engines
│   ├── VisionUnavailable   the worker is starting, restarting or stalled
│   ├── ModelMissing        a model file is absent or fails its hash
│   └── PromptUnsupported   the engine cannot answer this object prompt
├── GalleryError            members and photos
│   ├── MemberUnknown
│   │   └── PhotoUnknown    the member has no such photo or rejected face
│   ├── MemberExists
│   ├── GalleryUnavailable  the database is locked, damaged, of a newer version; the disk is full
│   └── PhotoRefused        no face, several faces, not an image, too large, ...
├── NegotiationError        SDP that cannot be answered
│   └── CodecUnsupported    a proper offer, but without H.264
├── StreamUnknown / StreamConflict
│   ├── SessionUnknown      no viewer or publisher of that id
│   └── TrackUnknown        no such person in the stream, or gone for long
├── JobError                work on pictures and files that runs in the background
│   ├── JobUnknown / JobConflict
│   │   └── FileUnknown     the job has no such file
│   ├── JobRefused          what was asked for, or sent, cannot become a job
│   └── DiskFull            no space left, or no more than jobs may take
├── RecordingError
│   └── RecordingUnknown    no recording of that id, or no such part of it
├── OutputError             a file that cannot be written: folder, disk full, container
├── ConfigError             a setting, a port, a folder
└── LimitReached            a stated bound (streams, viewers, size)

The message says what happened, with what value, and what to do next, in one line. `redact` what came from a URL.
"""

from __future__ import annotations

import re

# Up to the last "@", quotes included: passwords are typed with anything in them, however addresses should be written.
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)\S*@(?=[^\s@]+)")
_SECRET_QUERY = re.compile(
    r"(?i)([?&;](?:password|passwd|pwd|pass|token|access_token|secret|key|auth|sig|signature)=)[^&\s#;]*"
)


def redact(text: str) -> str:
    """`text` without user names, passwords and tokens of any URL in it: `rtsp://***@camera/…`."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub(r"\g<scheme>***@", text))


class StreamerError(Exception):
    """Base of the tree. `str(error)` is one line that may be shown to a user; credentials are already redacted."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(" ".join(message.split())))


class SourceError(StreamerError):
    """Something about an input."""


class SourceUnavailable(SourceError):
    """The input cannot be reached now and may come back by itself."""


class SourceUnusable(SourceError):
    """The input is reached, or refused for good, and will never give video as it is."""


class VisionError(StreamerError):
    """Something about models or engines."""


class VisionUnavailable(VisionError):
    """The vision worker is starting, restarting or stalled."""


class NoSharedMemory(VisionUnavailable):
    """The system gives no shared memory for what goes to the vision worker."""


class ModelMissing(VisionError):
    """A model file is absent, cannot be fetched, or fails its hash."""


class PromptUnsupported(VisionError):
    """The engine cannot answer this object prompt."""


class GalleryError(StreamerError):
    """Something about members and their photos."""


class MemberUnknown(GalleryError):
    """No member of that name."""


class PhotoUnknown(MemberUnknown):
    """No such photo or rejected face of the member, or its file is gone."""


class MemberExists(GalleryError):
    """A member of that name is there already."""


class GalleryUnavailable(GalleryError):
    """The gallery's files cannot be used now or as they are: locked, damaged, of a newer version, disk full."""


class GalleryUnwritable(GalleryUnavailable):
    """The gallery's folder must not be written to, or is none."""


class PhotoRefused(GalleryError):
    """A photo that cannot be enrolled."""


class NegotiationError(StreamerError):
    """An SDP offer that cannot be answered."""


class CodecUnsupported(NegotiationError):
    """An SDP offer in order, but without a codec that this service speaks."""


class StreamUnknown(StreamerError):
    """No stream of that id."""


class SessionUnknown(StreamUnknown):
    """No viewer or publisher of that id, or no longer."""


class TrackUnknown(StreamUnknown):
    """No track of that id in the stream, or it is gone for long."""


class StreamConflict(StreamerError):
    """The request does not fit the state that the stream is in (a second publisher, say)."""


class JobError(StreamerError):
    """Something about a job."""


class JobUnknown(JobError):
    """No job of that id."""


class FileUnknown(JobUnknown):
    """No such file of the job."""


class JobConflict(JobError):
    """The request does not fit the state that the job is in."""


class JobRefused(JobError):
    """What was asked for, or sent, cannot become a job."""


class DiskFull(JobError):
    """The disk, or the share of it that jobs may take, is full."""


class RecordingError(StreamerError):
    """A recording that cannot start or had to end."""


class RecordingUnknown(RecordingError):
    """No recording of that id, no such part of it, or none that runs."""


class OutputError(StreamerError):
    """A file that cannot be written: the folder, the disk, the container."""


class ConfigError(StreamerError):
    """A setting, a port or a folder that cannot be used."""


class LimitReached(StreamerError):
    """A stated bound is reached."""
