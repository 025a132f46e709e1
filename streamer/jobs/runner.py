"""The queue at work: takes jobs, runs some at a time, ends them. What blocks is done by `desk`, on threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from streamer.errors import JobConflict, JobRefused, StreamerError
from streamer.jobs import folder as files
from streamer.jobs.desk import Draft, JobDesk, Running, goes_on
from streamer.jobs.folder import JobFolder
from streamer.jobs.job import ENDED, Job, JobSpec, Progress
from streamer.jobs.store import new_job
from streamer.service.settings import Settings

log = logging.getLogger(__name__)

CANCEL_SECONDS = 5.0
"""From the request to end until a cancelled job is killed; its files are thrown away anyhow."""
CLOSE_SECONDS = 7.0
"""The same when the service stops: time to finish the file, so that little is done again; `up` waits for ten."""
SAVE_SECONDS = 2.0
"""Between two writes of a job's progress to disk."""
SWEEP_SECONDS = 3600.0
DAY_SECONDS = 86_400.0


class Jobs:
    """Background jobs of one service. Coroutines only; everything that blocks is done on threads.

    Bound: `jobs.max_queued` wait, `jobs.max_running` run. Policy: oldest first; a full queue refuses (`LimitReached`).

    Args:
        root: folder of the list and of the jobs' files, made if need be.
        recordings: folder that recordings are looked for in.
        module: Python module that gets the arguments; another one for tests.

    Raises:
        ConfigError: the list of jobs cannot be used. (Blocks: make it on a thread.)
    """

    def __init__(self, settings: Settings, root: Path, recordings: Path, module: str = "streamer") -> None:
        self._settings = settings
        self._desk = JobDesk(settings, root, recordings, module)
        self._store = self._desk.store
        self._running: dict[str, Running] = {}
        self._wake = asyncio.Event()
        self._closing = False
        # Not the loop's own threads: a job keeps one for as long as it runs.
        self._threads = ThreadPoolExecutor(settings.jobs.max_running, thread_name_prefix="job")
        # Here, not in `run`: whoever asks first must not be told of the state that an earlier service left.
        self._desk.adopt()

    async def run(self) -> None:
        """Run jobs until `aclose`, those first that an earlier service left."""
        async with asyncio.TaskGroup() as group:
            sweeper = group.create_task(self._sweep_now_and_then(), name="jobs-sweeper")
            while not self._closing:
                self._wake.clear()
                await self._start_what_fits(group)
                await self._wake.wait()
            sweeper.cancel()

    async def aclose(self) -> None:
        """Ask running jobs to finish their files, mark them interrupted, and end. Twice is fine."""
        self._closing = True
        await asyncio.gather(*(self._end(running, "close", CLOSE_SECONDS) for running in self._running.values()))
        self._wake.set()

    def release(self) -> None:
        """After `run` ended: close the list. Blocks."""
        self._threads.shutdown()
        self._store.close()

    # Asking for jobs

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """A folder to upload into; it is removed unless `submit` took it.

        Raises:
            LimitReached: the queue is full.
            DiskFull: the disk, or the jobs' share of it, is full.
        """
        draft = await asyncio.to_thread(self._desk.open_draft)
        try:
            yield draft
        finally:
            await asyncio.to_thread(JobFolder(draft.folder).remove)

    async def submit(self, spec: JobSpec, draft: Draft | None = None) -> Job:
        """Append a job to the queue.

        Raises:
            JobRefused: files are missing, or there are more than it can use; or the video that a render names has none.
            RecordingUnknown, JobUnknown: no such recording, no such job.
            JobConflict: the recording or the job is not finished.
            LimitReached: the queue is full.
            DiskFull: the disk, or the jobs' share of it, is full.
        """
        _check_files(spec, len(draft.inputs) if draft else 0)
        job = new_job(draft.id if draft else files.new_id(), spec.given(), draft.inputs if draft else ())
        job = await asyncio.to_thread(self._desk.add, job, draft)
        self._wake.set()
        return job

    async def cancel(self, job_id: str) -> Job:
        """End a job and remove its files; a running one ends within seconds. Raises `JobUnknown`, `JobConflict`."""
        job = await asyncio.to_thread(self._store.get, job_id)
        running = self._running.get(job_id)
        if running is not None:
            await self._end(running, "cancel", None)
            return job
        if job.state not in ("queued", "interrupted"):
            raise JobConflict(f"job {job_id} is {job.state}: there is nothing to cancel")
        if await asyncio.to_thread(
            self._store.change, job_id, (job.state,), state="cancelled", finished_at=time.time(), reason=None
        ):
            await asyncio.to_thread(self._desk.remove_files, job)
        return await asyncio.to_thread(self._store.get, job_id)

    async def resume(self, job_id: str) -> Job:
        """Queue an interrupted or failed job again; a video goes on where it ended. `JobUnknown`, `JobConflict`."""
        job = await asyncio.to_thread(self._store.get, job_id)
        if job.state not in ("interrupted", "failed"):
            raise JobConflict(f"job {job_id} is {job.state}: only an interrupted or failed one can be resumed")
        await asyncio.to_thread(self._desk.check_queue)
        changes = {"state": "queued", "resume": goes_on(job), "attempts": 0, "reason": None, "finished_at": None}
        if not await asyncio.to_thread(self._store.change, job_id, (job.state,), **changes):
            raise JobConflict(f"job {job_id} changed meanwhile; look at it again")
        self._wake.set()
        return await asyncio.to_thread(self._store.get, job_id)

    async def delete(self, job_id: str) -> None:
        """Forget a job and remove its files. Raises `JobUnknown`, `JobConflict` while it runs."""
        job = await asyncio.to_thread(self._store.get, job_id)
        if job_id in self._running:
            raise JobConflict(f"job {job_id} is running: cancel it first")
        # Out of the queue first: it must not be started while its files go.
        if not await asyncio.to_thread(self._store.change, job_id, (job.state,), state="cancelled"):
            raise JobConflict(f"job {job_id} changed meanwhile; look at it again")
        await asyncio.to_thread(self._desk.remove_files, job)
        await asyncio.to_thread(self._store.remove, job_id)

    # Looking at jobs

    async def all(self) -> list[Job]:
        """Every job, newest first."""
        return await asyncio.to_thread(self._store.all)

    async def get(self, job_id: str) -> Job:
        """Raises `JobUnknown`."""
        return await asyncio.to_thread(self._store.get, job_id)

    async def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return await asyncio.to_thread(self._store.counts)

    def progress(self, job: Job) -> Progress | None:
        """How far `job` is now; the store's is seconds old."""
        running = self._running.get(job.id)
        return (running.progress if running is not None else None) or job.progress

    def cancelling(self, job: Job) -> bool:
        """It was asked to end and has not ended yet."""
        running = self._running.get(job.id)
        return running is not None and running.ending == "cancel"

    def folder(self, job_id: str) -> JobFolder:
        """The files of a job."""
        return self._desk.folder(job_id)

    # The queue at work

    async def _start_what_fits(self, group: asyncio.TaskGroup) -> None:
        while len(self._running) < self._settings.jobs.max_running and not self._closing:
            job = await asyncio.to_thread(self._desk.take_next)
            if job is None:
                return
            running = self._running[job.id] = Running(job.progress if job.resume else None)
            group.create_task(self._do(job, running), name=f"job-{job.id}")

    async def _do(self, job: Job, running: Running) -> None:
        """A job from its start to its end, whatever happens to it."""
        loop = asyncio.get_running_loop()
        try:
            if self._closing and running.ending is None:
                running.ending = "close"
            if running.ending is None:
                running.process = await loop.run_in_executor(self._threads, self._desk.start, job)
            if running.process is None:
                await asyncio.to_thread(self._desk.put_down, job, running, None)
                return
            if running.ending is not None:
                # It has done nothing yet, and so early it may not hear what asks it to end.
                running.process.kill()
            ending = await loop.run_in_executor(self._threads, running.process.follow, self._noting(job, running))
            await asyncio.to_thread(self._desk.put_down, job, running, ending)
        except (StreamerError, OSError) as exc:
            log.warning("job %s failed: %s", job.id, exc)
            with contextlib.suppress(StreamerError):
                await asyncio.to_thread(self._desk.close_row, job, "failed", reason=str(exc))
        finally:
            del self._running[job.id]
            self._wake.set()

    async def _end(self, running: Running, why: Literal["cancel", "close"], seconds: float | None) -> None:
        """Ask a job to end, and kill it where it does not. With `seconds` None the killing is left to a timer."""
        if running.ending != "cancel":
            running.ending = why
        process = running.process
        if process is None:
            return  # it is being started; `_do` looks at `ending` afterwards
        process.interrupt()
        if seconds is None:
            asyncio.get_running_loop().call_later(CANCEL_SECONDS, _kill_if_there, running)
            return
        deadline = time.monotonic() + seconds
        while any(running is other for other in self._running.values()):
            if time.monotonic() > deadline:
                process.kill()
                return
            await asyncio.sleep(0.05)

    async def _sweep_now_and_then(self) -> None:
        """Delete finished jobs that are older than `jobs.keep_days`."""
        keep = self._settings.jobs.keep_days * DAY_SECONDS
        while keep:
            try:
                for job in await asyncio.to_thread(self._store.in_state, *ENDED):
                    if (job.finished_at or job.created_at) < time.time() - keep:
                        log.info("job %s is older than %g days: deleted", job.id, self._settings.jobs.keep_days)
                        await self.delete(job.id)
            except StreamerError as exc:
                log.warning("jobs: %s", exc)
            await asyncio.sleep(SWEEP_SECONDS)

    def _noting(self, job: Job, running: Running) -> Callable[[Progress], None]:
        """Keeps a job's progress: at once for those who look, now and then on disk."""
        saved_at = 0.0

        def note(progress: Progress) -> None:
            nonlocal saved_at
            running.progress = progress
            if time.monotonic() - saved_at >= SAVE_SECONDS:
                saved_at = time.monotonic()
                with contextlib.suppress(StreamerError):
                    self._store.change(job.id, progress=progress)

        return note


def _check_files(spec: JobSpec, count: int) -> None:
    if spec.kind == "image" and not count:
        raise JobRefused("send one photo or more in the field 'file'")
    if spec.kind == "video" and (count == 1) == (spec.recording is not None):
        raise JobRefused("send one video in the field 'file', or name a 'recording'")
    if spec.kind == "video" and count > 1:
        raise JobRefused(f"a job takes one video, not {count}: send each by itself")
    if spec.kind == "render" and count:
        raise JobRefused("a render takes no file: it names a 'recording' or the 'job' of a finished video")


def _kill_if_there(running: Running) -> None:
    if running.process is not None:
        running.process.kill()
