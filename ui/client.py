"""The service's HTTP API as the dashboard uses it. Nothing of the vision code is imported here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

Json = dict[str, Any]

DEFAULT_API = "http://127.0.0.1:8000"
TIMEOUT = httpx.Timeout(10.0, connect=2.0)
"""Seconds. Enrolment gets its own, longer one: the worker may have to load its models first."""
ENROL_TIMEOUT = httpx.Timeout(120.0, connect=2.0)
IMPORT_TIMEOUT = httpx.Timeout(1800.0, connect=2.0)
_CALL = re.compile(r"; (GET|POST|PUT|PATCH|DELETE) /\S+ lists them$")


class ServiceError(Exception):
    """The service refused. `str(error)` is one line for the user; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 0, problem: Json | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status
        self.problem = problem or {}
        """The members of the problem+json body."""


class ServiceUnreachable(ServiceError):
    """No answer at all: not started, gone, or the wrong address."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to enrol: its file name and its bytes as uploaded."""

    name: str
    data: bytes
    content_type: str = "application/octet-stream"


class Service:
    """A client of one service. Thread-safe, so that every session of the dashboard may share it.

    Every method raises `ServiceUnreachable` where nobody answers and `ServiceError` where the answer is a refusal.
    """

    def __init__(self, base: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.base = base.rstrip("/")
        self.token = token or None
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            # trust_env off: a proxy of the environment must not be asked for a service on this machine.
            self._http = httpx.Client(
                base_url=self.base, headers=headers, timeout=TIMEOUT, transport=transport, trust_env=False
            )
        except httpx.InvalidURL as exc:
            raise ServiceUnreachable(f"STREAMER_API is no address: {base!r}; set it to {DEFAULT_API}, say") from exc

    @classmethod
    def from_environment(cls) -> Service:
        """The service that STREAMER_API and STREAMER_TOKEN name."""
        return cls(os.environ.get("STREAMER_API") or DEFAULT_API, os.environ.get("STREAMER_TOKEN"))

    def close(self) -> None:
        """Drops the pooled connections."""
        self._http.close()

    def limits(self) -> Json:
        """How much it takes in one request: {"photo_bytes", "photos", "photos_bytes", "archive_bytes", "job_…"}."""
        limits = self._object("GET", "/healthz").get("limits")
        if not isinstance(limits, dict):
            raise self._stranger()
        return limits

    # Streams

    def streams(self) -> list[Json]:
        """Every running stream, oldest first."""
        return _items(self._call("GET", "/api/streams"), "streams")

    def stream(self, stream_id: str) -> Json:
        """One stream with its state, numbers and tracks."""
        return self._object("GET", _stream(stream_id))

    def create_stream(self, source: Json, **choice: str | None) -> Json:
        """Starts a stream of `source`; `choice` may hold member, object, style."""
        return self._object("POST", "/api/streams", json={"source": source, **choice})

    def update_stream(self, stream_id: str, **choice: str | None) -> Json:
        """Changes member, object or style of a running stream."""
        return self._object("PATCH", _stream(stream_id), json=choice)

    def remove_stream(self, stream_id: str) -> None:
        """Ends a stream and its recording."""
        self._call("DELETE", _stream(stream_id))

    def start_recording(self, stream_id: str) -> Json:
        """Starts writing the annotated picture to disk."""
        return self._object("POST", _stream(stream_id) + "/recording")

    def stop_recording(self, stream_id: str) -> Json:
        """Ends the recording; the file is complete when this returns."""
        return self._object("DELETE", _stream(stream_id) + "/recording")

    # Tracks

    def story(self, stream_id: str, track: int) -> Json:
        """Why a track is named as it is: {"track", "name", "faces", "looks", "decisions"}."""
        return self._object("GET", f"{_stream(stream_id)}/tracks/{track}")

    def this_is(self, stream_id: str, track: int, member: str, create: bool = False) -> Json:
        """The track is that member: its best faces become photos. {"kept", "refused", "withdrawn"}."""
        body = {"track": track, "member": member, "create": create}
        return self._object("POST", _stream(stream_id) + "/label", json=body, timeout=ENROL_TIMEOUT)

    def is_not(self, stream_id: str, track: int, member: str) -> Json:
        """The track is not that member: its best faces weigh against the name. {"rejected", "withdrawn"}."""
        body = {"track": track, "not": member}
        return self._object("POST", _stream(stream_id) + "/label", json=body, timeout=ENROL_TIMEOUT)

    # Members

    def members(self) -> list[Json]:
        """Every member with the photos that stand for it."""
        return _items(self._call("GET", "/api/members"), "members")

    def add_member(self, name: str, photos: Sequence[Photo], face: str | None = None, group: str | None = None) -> Json:
        """Makes a member of photos: {"member", "kept", "refused"}. 409 where the name is taken, 422 if none is kept.

        `face` says which face of a photo with several: "1", "2", … from the left.
        """
        fields = {"name": name} | ({"group": group} if group else {})
        return self._enrol("/api/members", photos, fields | _face(face))

    def change_member(self, name: str, **about: str | None) -> Json:
        """Changes display_name, group or consent; None takes away."""
        return self._object("PATCH", _member(name), json=about)

    def add_photos(self, name: str, photos: Sequence[Photo], face: str | None = None) -> Json:
        """Adds photos to a member; the same answer as `add_member`."""
        return self._enrol(_member(name) + "/photos", photos, _face(face))

    def remove_member(self, name: str) -> None:
        """Deletes a member with its photos and embeddings."""
        self._call("DELETE", _member(name))

    def remove(self, path: str) -> None:
        """Deletes what the API names by its path: a photo or a rejected face of a member."""
        self._call("DELETE", path)

    def export_members(self, group: str | None = None) -> bytes:
        """Everybody, or a group, as a zip archive."""
        params = {"group": group} if group else {}
        return self._send("GET", "/api/archive", params=params, timeout=ENROL_TIMEOUT).content

    def import_members(self, archive: bytes, group: str | None = None) -> Json:
        """Reads an archive in: {"members": [{"name", "kept", "refused", "rejected"}]}."""
        params, headers = ({"group": group} if group else {}), {"Content-Type": "application/zip"}
        request = {"content": archive, "params": params, "headers": headers, "timeout": IMPORT_TIMEOUT}
        return self._object("POST", "/api/archive", **request)

    def picture(self, path: str) -> bytes:
        """An image that the API names by its path, a thumbnail say."""
        return self._send("GET", path).content

    # Recordings

    def recordings(self) -> list[Json]:
        """Every recording on disk."""
        return _items(self._call("GET", "/api/recordings"), "recordings")

    def remove_recording(self, recording_id: str) -> None:
        """Deletes a recording's video and sidecar."""
        self._call("DELETE", "/api/recordings/" + quote(recording_id, safe=""))

    def recording_timeline(self, recording_id: str) -> Json:
        """Who is in a recording when: {"duration_seconds", "frames", "people": [{"name", "seconds", "intervals"}]}."""
        return self._object("GET", "/api/recordings/" + quote(recording_id, safe="") + "/timeline")

    # Jobs

    def jobs(self) -> list[Json]:
        """Every job, newest first."""
        return _items(self._call("GET", "/api/jobs"), "jobs")

    def create_job(self, spec: Json) -> Json:
        """Queues a job that works on what the service has already: a recording, a finished video."""
        return self._object("POST", "/api/jobs", json=spec)

    def cancel_job(self, job_id: str) -> Json:
        """Ends a job and removes its files."""
        return self._object("POST", _job(job_id) + "/cancel")

    def resume_job(self, job_id: str) -> Json:
        """Queues an interrupted or failed job again."""
        return self._object("POST", _job(job_id) + "/resume")

    def remove_job(self, job_id: str) -> None:
        """Deletes a job with its files."""
        self._call("DELETE", _job(job_id))

    def read(self, path: str) -> Json:
        """A JSON object that the API names by its path, a timeline say."""
        return self._object("GET", path)

    # HTTP

    def _enrol(self, path: str, photos: Sequence[Photo], fields: dict[str, str]) -> Json:
        files = [("photos", (photo.name, photo.data, photo.content_type)) for photo in photos]
        return self._object("POST", path, data=fields, files=files, timeout=ENROL_TIMEOUT)

    def _object(self, method: str, path: str, **request: Any) -> Json:
        answer = self._call(method, path, **request)
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _call(self, method: str, path: str, **request: Any) -> Any:
        response = self._send(method, path, **request)
        if response.status_code == 204 or not response.content:
            return {}
        try:
            return response.json()
        except ValueError as exc:
            raise self._stranger() from exc

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TimeoutException as exc:
            raise ServiceUnreachable(f"the service at {self.base} does not answer in time") from exc
        except (httpx.TransportError, httpx.UnsupportedProtocol, httpx.InvalidURL) as exc:
            raise ServiceUnreachable(f"no service answers at {self.base}") from exc
        if response.is_success:
            return response
        problem = _problem(response)
        raise ServiceError(_line(response, problem), response.status_code, problem)

    def _stranger(self) -> ServiceError:
        return ServiceError(f"what answers at {self.base} is not the streamer service; check STREAMER_API")


def _problem(response: httpx.Response) -> Json:
    """The body of a refusal where it is a JSON object, else an empty one."""
    try:
        problem = json.loads(response.content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _line(response: httpx.Response, problem: Json) -> str:
    """What went wrong as one line."""
    if response.status_code == 401:
        return "the service wants a token: start the dashboard with the same STREAMER_TOKEN as the service"
    line = problem.get("detail") or problem.get("title")
    if isinstance(line, str) and line.strip():
        return without_call(line)
    return f"the service answered {response.status_code} {response.reason_phrase}".rstrip()


def without_call(line: str) -> str:
    """The line of an error without the call at its end that helps users of the API: a page has its own ways there."""
    return _CALL.sub("", line)


def _items(answer: Any, key: str) -> list[Json]:
    """The list in an answer that is a list or holds it under `key`."""
    items = answer.get(key) if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        raise ServiceError(f"the answer holds no list of {key}; is STREAMER_API the streamer service?")
    return items


def _stream(stream_id: str) -> str:
    return "/api/streams/" + quote(stream_id, safe="")


def _job(job_id: str) -> str:
    return "/api/jobs/" + quote(job_id, safe="")


def _member(name: str) -> str:
    return "/api/members/" + quote(name, safe="")


def _face(face: str | None) -> dict[str, str]:
    return {"face": face} if face else {}
