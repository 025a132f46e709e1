"""The list of jobs on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from streamer.errors import ConfigError, JobUnknown
from streamer.jobs.job import Input, Output, Progress
from streamer.jobs.store import JobStore, new_job


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "jobs.db"


def video(job_id: str, **spec: object) -> object:
    return new_job(job_id, {"kind": "video", "member": ["원영"], **spec}, [Input("0-a.mp4", "무대.mp4", 12)])


def test_a_job_comes_back_as_it_was_written(path: Path) -> None:
    store = JobStore(path)
    job = video("a", style="cutout")
    assert store.add(job, 5)
    outputs = (Output("video.mp4", 5), Output("more/x.png", 7))
    progress = Progress(3, 10, 24.5, 0.3, "frames")
    assert store.change("a", state="done", progress=progress, outputs=outputs, result={"frames": 10}, pid=7)
    store.close()
    store = JobStore(path)
    again = store.get("a")
    assert (again.spec, again.inputs, again.created_at) == (job.spec, job.inputs, job.created_at)
    assert (again.state, again.progress, again.outputs, again.result) == ("done", progress, outputs, {"frames": 10})
    assert (again.pid, again.resume, again.reason) == (7, False, None)
    store.close()
    store.close()


def test_oldest_first_out_newest_first_shown(path: Path) -> None:
    store = JobStore(path)
    for name in "abc":
        assert store.add(video(name), 5)
    assert [job.id for job in store.all()] == ["c", "b", "a"]
    assert store.next_queued().id == "a"
    assert store.change("a", ("queued",), state="running")
    assert store.next_queued().id == "b"
    assert store.counts() == {"queued": 2, "running": 1}
    assert [job.id for job in store.in_state("queued", "running")] == ["a", "b", "c"]
    store.remove("b")
    store.remove("b")
    assert [job.id for job in store.all()] == ["c", "a"]
    store.close()


def test_the_queue_has_a_bound(path: Path) -> None:
    store = JobStore(path)
    assert store.add(video("a"), 1)
    assert not store.add(video("b"), 1)
    store.change("a", state="running")
    assert store.add(video("b"), 1)
    store.close()


def test_a_change_that_expects_another_state_does_nothing(path: Path) -> None:
    store = JobStore(path)
    store.add(video("a"), 5)
    assert not store.change("a", ("running", "done"), state="failed")
    assert not store.change("zz", state="failed")
    assert store.get("a").state == "queued"
    with pytest.raises(JobUnknown, match="no job 'zz'"):
        store.get("zz")
    store.close()


def test_only_its_owner_may_read_it(path: Path) -> None:
    JobStore(path).close()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["damaged", "foreign", "newer"])
def test_a_file_that_is_no_list_of_jobs_is_said_and_left_alone(path: Path, what: str) -> None:
    path.parent.mkdir()
    if what == "damaged":
        path.write_bytes(b"not a database, " * 400)
    elif what == "foreign":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE other (x)")
        database.close()
    else:
        JobStore(path).close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"jobs\.db"):
        JobStore(path)
    assert path.read_bytes() == before
