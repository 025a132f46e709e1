"""The gallery's SQLite file: how it is opened, checked and brought up to date, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from streamer.errors import GalleryUnavailable, GalleryUnwritable
from streamer.folders import unusable

APPLICATION_ID = 0x53474C59
"""In the header of every gallery ("SGLY"): tells it from another program's database."""
BUSY_SECONDS = 5.0
"""How long a call waits for another process's write; a write takes some milliseconds."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE members (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            key TEXT NOT NULL UNIQUE,
            display_name TEXT NOT NULL,
            group_name TEXT,
            consent TEXT,
            created_at TEXT NOT NULL
        )""",
        """CREATE TABLE photos (
            id TEXT PRIMARY KEY,
            member_id INTEGER NOT NULL REFERENCES members(id) ON DELETE CASCADE,
            sha256 TEXT NOT NULL,
            extension TEXT NOT NULL,
            file TEXT NOT NULL,
            source TEXT NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            face_x0 REAL NOT NULL, face_y0 REAL NOT NULL, face_x1 REAL NOT NULL, face_y1 REAL NOT NULL,
            remark TEXT,
            added_at TEXT NOT NULL,
            UNIQUE (member_id, sha256)
        )""",
        """CREATE TABLE embeddings (
            photo_id TEXT NOT NULL REFERENCES photos(id) ON DELETE CASCADE,
            model_id TEXT NOT NULL,
            vector BLOB NOT NULL,
            score REAL NOT NULL,
            sharpness REAL NOT NULL,
            yaw REAL NOT NULL,
            made_at TEXT NOT NULL,
            PRIMARY KEY (photo_id, model_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX embeddings_by_model ON embeddings (model_id)",
    ),
    (
        """CREATE TABLE rejections (
            id TEXT PRIMARY KEY,
            member_id INTEGER NOT NULL REFERENCES members(id) ON DELETE CASCADE,
            sha256 TEXT NOT NULL,
            source TEXT NOT NULL,
            face_x0 REAL NOT NULL, face_y0 REAL NOT NULL, face_x1 REAL NOT NULL, face_y1 REAL NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            remark TEXT,
            added_at TEXT NOT NULL,
            UNIQUE (member_id, sha256)
        )""",
        """CREATE TABLE rejection_embeddings (
            rejection_id TEXT NOT NULL REFERENCES rejections(id) ON DELETE CASCADE,
            model_id TEXT NOT NULL,
            vector BLOB NOT NULL,
            made_at TEXT NOT NULL,
            PRIMARY KEY (rejection_id, model_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX rejection_embeddings_by_model ON rejection_embeddings (model_id)",
    ),
)
"""Statement lists; the n-th takes a database of version n (`PRAGMA user_version`) to n + 1. Never edit one: append."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection in WAL mode to the gallery at `path`, made or migrated if need be. Autocommit: `BEGIN` by hand.

    It may be used from any thread, one at a time. Deleted content is overwritten with zeros (`secure_delete`).

    Raises:
        GalleryUnavailable: locked, damaged, another program's, or of a newer version. The file is left as it is.
        GalleryUnwritable: the folder cannot be made or written.
    """
    _prepare_folder(path.parent)
    with translated(path):
        if path.exists() and path.stat().st_size > 0:
            _inspect(path)
        _make_private(path)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def inspect(path: Path) -> tuple[int, int] | None:
    """Members and photos of the gallery at `path`, through a connection that cannot write; None: there is none yet.

    Raises:
        GalleryUnavailable: as `open_database`.
    """
    with translated(path):
        if not path.exists() or path.stat().st_size == 0:
            return None
        _inspect(path)
        with contextlib.closing(_read_only(path)) as reader:
            members = reader.execute("SELECT count(*) FROM members").fetchone()[0]
            photos = reader.execute("SELECT count(*) FROM photos").fetchone()[0]
    return int(members), int(photos)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A further connection to an open gallery, for `PRAGMA data_version`: it rises when any other one commits."""
    with translated(path):
        return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about `path` into this project's."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _meaning(exc, path) from exc
    except OSError as exc:
        raise _system_meaning(exc, path) from exc


def _prepare_folder(folder: Path) -> None:
    try:
        # Photos of people: nobody else on this machine needs to look.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _system_meaning(exc, folder) from exc
        raise GalleryUnwritable(f"the gallery's folder {folder} cannot be made: {unusable(folder, exc)}") from exc
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _no_permission(folder)


def _inspect(path: Path) -> None:
    """Refuse a file that is not ours to write, through a connection that cannot write."""
    if not os.access(path, os.R_OK | os.W_OK):
        raise _no_permission(path)
    with contextlib.closing(_read_only(path)) as reader:
        version = _pragma(reader, "user_version")
        tables = reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if _pragma(reader, "application_id") != APPLICATION_ID and (version or tables):
            raise GalleryUnavailable(
                f"{path} is another program's database; move it away, or choose another data folder"
            )
        _check_version(version, path)
        verdict = reader.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _damaged(path, verdict)


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _make_private(path: Path) -> None:
    """Make the file, where it is new, for its owner alone; SQLite gives its companions the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _use_wal(connection: sqlite3.Connection) -> None:
    # The switch needs the file for itself for a moment, and SQLite does not wait for that by itself.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            if _code(exc) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "user_version") == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have done it while this one waited.
        version = _pragma(connection, "user_version")
        _check_version(version, path)
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_version(version: int, path: Path) -> None:
    if version > len(MIGRATIONS):
        raise GalleryUnavailable(
            f"{path} was written by a newer version of this program (its format is {version}, this one reads up to "
            f"{len(MIGRATIONS)}): upgrade, or choose another data folder"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _meaning(error: sqlite3.Error, path: Path) -> GalleryUnavailable:
    code = _code(error)
    if code in _BUSY:
        return GalleryUnavailable(
            f"the gallery {path} has been locked by another process for {BUSY_SECONDS:.0f} s; close it, or try again"
        )
    if code in _DAMAGED:
        return _damaged(path, str(error))
    if code in _FORBIDDEN:
        return _no_permission(path)
    if code == sqlite3.SQLITE_FULL:
        return GalleryUnavailable(f"no space is left for the gallery {path}; free some, or choose another data folder")
    return GalleryUnavailable(f"the gallery {path} cannot be used ({error}); check the disk, or try again")


def _system_meaning(error: OSError, path: Path) -> GalleryUnavailable:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _no_permission(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GalleryUnavailable(f"no space is left for the gallery {path}; free some, or choose another data folder")
    return GalleryUnavailable(
        f"the gallery {path} cannot be used ({error}); check the disk, or choose another data folder"
    )


def _no_permission(path: Path) -> GalleryUnwritable:
    return GalleryUnwritable(
        f"no permission to write {path}; change its owner or mode, or choose another folder with --data-dir"
    )


def _damaged(path: Path, what: str) -> GalleryUnavailable:
    return GalleryUnavailable(
        f"the gallery {path} is damaged ({what}): put back a copy of its folder, or run `streamer doctor` for the ways "
        "to recover it"
    )
