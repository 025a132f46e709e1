"""The list of jobs in SQLite (WAL): it outlives the service, and says after a crash what was running."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamer.errors import ConfigError, DiskFull, JobError, JobUnknown
from streamer.folders import unusable
from streamer.jobs.job import Input, Job, Output, Progress, State

APPLICATION_ID = 0x534A4F42
"""In the header of the file ("SJOB"): tells it from another program's database."""
VERSION = 1
BUSY_SECONDS = 5.0

_TABLE = """CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    inputs TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    reason TEXT,
    started_at REAL,
    finished_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    resume INTEGER NOT NULL DEFAULT 0,
    progress TEXT,
    result TEXT,
    outputs TEXT NOT NULL DEFAULT '[]',
    pid INTEGER,
    pid_started REAL
)"""
_COLUMNS = (
    "id, kind, spec, inputs, state, created_at, reason, started_at, finished_at, attempts, resume, progress, result, "
    "outputs, pid, pid_started"
)
_JSON = ("spec", "inputs", "progress", "result", "outputs")


class JobStore:
    """Jobs on disk. Every method blocks for a disk write; any thread may call, one at a time does.

    Raises:
        ConfigError: the file cannot be made, is damaged, another program's, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._database = _open(path)

    def close(self) -> None:
        """Twice is fine."""
        with self._lock:
            self._database.close()

    def add(self, job: Job, max_queued: int) -> bool:
        """Append a job, unless `max_queued` wait already: False then."""
        values = _row(asdict(job))
        marks = ", ".join(f":{key}" for key in values)
        with self._writing() as database:
            (waiting,) = database.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= max_queued:
                return False
            database.execute(f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})", values)
        return True

    def all(self) -> list[Job]:
        """Every job, newest first."""
        return self._select("ORDER BY number DESC")

    def get(self, job_id: str) -> Job:
        """Raises `JobUnknown`."""
        found = self._select("WHERE id = ?", job_id)
        if not found:
            raise JobUnknown(f"no job {job_id[:80]!r}; GET /api/jobs lists them")
        return found[0]

    def next_queued(self) -> Job | None:
        """The job that has waited longest."""
        found = self._select("WHERE state = 'queued' ORDER BY number LIMIT 1")
        return found[0] if found else None

    def in_state(self, *states: State) -> list[Job]:
        """Jobs in one of `states`, oldest first."""
        return self._select(f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY number", *states)

    def counts(self) -> dict[str, int]:
        """Jobs by state; states without any are left out."""
        with self._lock, _translated(self._path):
            return dict(self._database.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def change(self, job_id: str, expect: Iterable[State] | None = None, **values: Any) -> bool:
        """Set columns of a job, if its state is one of `expect`. False where it is not, or is gone."""
        states = tuple(expect or ())
        row = _row(values)
        sets = ", ".join(f"{key} = :{key}" for key in row)
        where = f" AND state IN ({', '.join(f':s{n}' for n in range(len(states)))})" if states else ""
        bound = {**row, "job": job_id, **{f"s{n}": state for n, state in enumerate(states)}}
        with self._writing() as database:
            return database.execute(f"UPDATE jobs SET {sets} WHERE id = :job{where}", bound).rowcount > 0

    def remove(self, job_id: str) -> None:
        """Forget a job; one that is not there is forgotten."""
        with self._writing() as database:
            database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def _select(self, rest: str, *values: Any) -> list[Job]:
        with self._lock, _translated(self._path):
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM jobs {rest}", values).fetchall()
        return [_job(row) for row in rows]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def new_job(job_id: str, spec: dict[str, Any], inputs: Iterable[Input]) -> Job:
    """A job that waits, made now."""
    return Job(job_id, spec["kind"], spec, tuple(inputs), "queued", time.time())


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """Values as they are stored."""
    row = {}
    for key, value in values.items():
        if key in _JSON and value is not None:
            plain = [asdict(v) if not isinstance(v, dict) else v for v in value] if isinstance(value, tuple) else value
            value = json.dumps(asdict(plain) if isinstance(plain, Progress) else plain, ensure_ascii=False)
        row[key] = value
    return row


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for key in _JSON:
        values[key] = None if values[key] is None else json.loads(values[key])
    values["inputs"] = tuple(Input(**value) for value in values["inputs"])
    values["outputs"] = tuple(Output(**value) for value in values["outputs"])
    values["progress"] = None if values["progress"] is None else Progress(**values["progress"])
    values["resume"] = bool(values["resume"])
    return Job(**values)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigError(f"cannot use the folder of jobs {path.parent}: {unusable(path.parent, exc)}") from exc
    database = None
    try:
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _prepare(database, path)
        os.chmod(path, 0o600)  # names of people stand in it
    except (sqlite3.Error, OSError) as exc:
        if database is not None:
            database.close()
        raise ConfigError(
            f"the list of jobs {path} cannot be used: {exc}; move it away to begin with an empty one"
        ) from exc
    except BaseException:
        if database is not None:
            database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    (app,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and app != APPLICATION_ID:
        raise ConfigError(f"{path} is not a list of jobs; move it away")
    if version > VERSION:
        raise ConfigError(f"the list of jobs {path} was made by a newer version; update this program")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA secure_delete = ON")
    if not tables:
        database.execute("BEGIN IMMEDIATE")
        database.execute(_TABLE)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskFull(f"the disk of {path.parent} is full; free some space") from exc
        raise JobError(f"the list of jobs {path} cannot be used: {exc}") from exc
