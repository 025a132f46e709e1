"""What jobs need of the disk and of processes: the list, the folders, the commands. Everything here blocks."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from streamer.egress.recordings import find_recording
from streamer.errors import JobConflict, JobRefused, LimitReached
from streamer.jobs import folder as files
from streamer.jobs.command import SIDECAR, STARTER, Paths, arguments
from streamer.jobs.folder import JobFolder
from streamer.jobs.job import Input, Job, Progress, State
from streamer.jobs.process import INTERRUPTED, Ending, JobProcess, end_orphan
from streamer.jobs.store import JobStore
from streamer.service.settings import Settings

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Starts of a job without anybody asking: one that takes the machine down must not do so for ever."""


@dataclass
class Draft:
    """A job that is being uploaded."""

    id: str
    folder: Path
    """ID.upload; the files go to `input` in it."""
    max_bytes: int
    """What may be written."""
    inputs: list[Input] = field(default_factory=list)


@dataclass
class Running:
    """A job that runs."""

    progress: Progress | None = None
    process: JobProcess | None = None
    ending: Literal["cancel", "close"] | None = None
    """Why it was asked to end."""


class JobDesk:
    """The blocking half of `Jobs`, which calls it on threads; any thread may.

    Args:
        root: folder of the list and of the jobs' files, made if need be.
        recordings: folder that recordings are looked for in.
        module: Python module that gets the arguments.

    Raises:
        ConfigError: the list of jobs cannot be used.
    """

    def __init__(self, settings: Settings, root: Path, recordings: Path, module: str) -> None:
        self._settings = settings
        self._root = root
        self._recordings = recordings
        self._command = (*STARTER, settings.jobs.priority, module)
        self.store = JobStore(root / "jobs.db")

    def folder(self, job_id: str) -> JobFolder:
        """The files of a job."""
        return JobFolder(self._root / job_id)

    def open_draft(self) -> Draft:
        """A folder to upload into. Raises `LimitReached`, `DiskFull`."""
        self.check_queue()
        room = self.check_space()
        draft_id = files.new_id()
        folder = self._root / f"{draft_id}{files.UPLOAD}"
        _make(folder / "input")
        return Draft(draft_id, folder, min(room, self._settings.jobs.max_upload_bytes))

    def adopt(self) -> None:
        """Queue again what was running, as far as it was not tried too often; what was not finished is thrown away."""
        files.sweep(self._root)
        for job in self.store.in_state("running", "interrupted"):
            if job.state == "interrupted" and not job.resume:
                continue
            if job.attempts < MAX_ATTEMPTS:
                log.info("job %s was interrupted and is queued again", job.id)
                self.store.change(job.id, state="queued", resume=goes_on(job), reason=None, finished_at=None)
            else:
                reason = f"the service ended {job.attempts} times while this job ran; resume it by hand"
                self.store.change(job.id, state="interrupted", resume=False, reason=reason, finished_at=time.time())

    def check_queue(self) -> None:
        """Raises `LimitReached` where as many jobs wait as may."""
        waiting = self.store.counts().get("queued", 0)
        if waiting >= self._settings.jobs.max_queued:
            raise LimitReached(f"{waiting} jobs are waiting, which is all that may: wait for one to end, or cancel one")

    def check_space(self) -> int:
        """Bytes that jobs may still write. Raises `DiskFull` where there are none."""
        return files.check_space(self._root, self._settings.jobs.max_total_bytes)

    def add(self, job: Job, draft: Draft | None) -> Job:
        """Append a job to the queue, with the files of its draft, and return it. Raises as `Jobs.submit`."""
        if not job.inputs:
            self._paths(job)  # says what is missing before it is queued
        if "job" in job.spec and "member" not in job.spec:
            # Another style of the same video shows, or hides, the same people; its results name others as well.
            job = replace(job, spec={**job.spec, "member": self.store.get(job.spec["job"]).spec["member"]})
        if draft is None:
            self.check_space()
            _make(self._root / job.id)
        else:
            with files.writing(draft.folder):
                draft.folder.rename(self._root / job.id)
        try:
            added = self.store.add(job, self._settings.jobs.max_queued)
        except BaseException:
            self.folder(job.id).remove()
            raise
        if not added:
            self.folder(job.id).remove()
            self.check_queue()
            raise LimitReached("too many jobs are waiting; try again when one has ended")
        return job

    def take_next(self) -> Job | None:
        """Mark the next job as running."""
        job = self.store.next_queued()
        while job is not None:
            changes: dict[str, Any] = {"state": "running", "started_at": time.time(), "attempts": job.attempts + 1}
            if self.store.change(job.id, ("queued",), **changes):
                return job
            job = self.store.next_queued()
        return None

    def start(self, job: Job) -> JobProcess:
        """The process of a job that was taken. Raises what is missing of its files, `DiskFull`, `OSError`."""
        end_orphan(job)
        folder = self.folder(job.id)
        config = folder.prepare(self._settings, job.resume)
        paths = self._paths(job)
        data_dir = self._settings.data_folder.absolute()
        engine = self._settings.vision.engine
        process = JobProcess([*self._command, *arguments(job, paths, data_dir, config, engine)])
        self.store.change(job.id, pid=process.pid, pid_started=process.started)
        return process

    def _paths(self, job: Job) -> Paths:
        """What the job works on. Raises `RecordingUnknown`, `JobUnknown`, `JobConflict`, `JobRefused`."""
        work = self.folder(job.id).work.absolute()
        spec = job.spec
        if "recording" in spec:
            recording = find_recording(self._recordings, spec["recording"])
            if recording.running:
                raise JobConflict(f"recording {recording.id} is still running: stop it first")
            if job.kind == "render" and recording.sidecar is None:
                raise JobRefused(f"recording {recording.id} has no results beside it, so it cannot be drawn anew")
            sidecar = recording.sidecar.absolute() if recording.sidecar is not None else None
            return Paths(recording.path.absolute(), sidecar, work)
        if "job" in spec:
            return self._paths_of_video(spec["job"], work)
        folder = self.folder(job.id).input.absolute()
        return Paths(folder if len(job.inputs) > 1 else folder / job.inputs[0].file, None, work)

    def _paths_of_video(self, job_id: str, work: Path) -> Paths:
        video = self.store.get(job_id)
        if video.kind != "video":
            raise JobRefused(f"job {job_id} is no video, so it cannot be drawn anew")
        if video.state != "done":
            raise JobConflict(f"job {job_id} is {video.state}: only the results of a finished one can be drawn anew")
        return Paths(self._paths(video).source, self.folder(job_id).find(SIDECAR).absolute(), work)

    def put_down(self, job: Job, running: Running, ending: Ending | None) -> None:
        """Write down how a job ended."""
        folder = self.folder(job.id)
        if running.ending == "cancel":
            self.remove_files(job)
            self.close_row(job, "cancelled", progress=running.progress)
        elif ending is not None and ending.status == 0:
            outputs = folder.settle()
            result = self._in_own_words(job, ending.result)
            self.close_row(job, "done", progress=running.progress, result=result, outputs=outputs)
        elif running.ending == "close":
            reason = "the service stopped; the job goes on at its next start"
            self.close_row(job, "interrupted", progress=running.progress, reason=reason, resume=True)
        elif ending is None or ending.status in INTERRUPTED:
            reason = "the job's process was interrupted from outside"
            self.close_row(job, "interrupted", progress=running.progress, reason=reason, resume=False)
        else:
            if job.kind != "video":
                folder.drop_results()
            reason = self._in_own_words(job, ending.reason)
            self.close_row(job, "failed", progress=running.progress, reason=reason)

    def _in_own_words(self, job: Job, said: Any) -> Any:
        """What a command said, with the names under which files were sent, and without this machine's folders."""
        if isinstance(said, dict):
            return {key: self._in_own_words(job, value) for key, value in said.items()}
        if isinstance(said, list):
            return [self._in_own_words(job, value) for value in said]
        if isinstance(said, str):
            folder = self.folder(job.id)
            for path in (folder.input, folder.work, self._recordings):
                said = said.replace(f"{path.absolute()}{os.sep}", "")
            for given in job.inputs:
                said = said.replace(given.file, given.name)
        return said

    def close_row(self, job: Job, state: State, **values: Any) -> None:
        """Write down that a running job is in `state` now, with further columns."""
        base: dict[str, Any] = {"reason": None, "resume": False, "pid": None, "pid_started": None}
        self.store.change(job.id, ("running",), state=state, finished_at=time.time(), **{**base, **values})

    def remove_files(self, job: Job) -> None:
        """Remove a job's folder, after the process that an earlier service may have left at work on it."""
        if job.state != "running":
            end_orphan(job)
        self.folder(job.id).remove()


def goes_on(job: Job) -> bool:
    """The next start can use what the last one made. Photos and renders begin again: they are short."""
    return job.kind == "video"


def _make(folder: Path) -> None:
    with files.writing(folder):
        folder.mkdir(parents=True, mode=0o700)
