"""The gallery's database and files as one: transactions, locks between processes, and deletion for real."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import GalleryUnavailable
from streamer.vision import gallery_rows as rows
from streamer.vision.gallery_database import connect_reader, open_database, translated
from streamer.vision.photo_files import PhotoFiles, unlink

log = logging.getLogger(__name__)

DATABASE = "gallery.sqlite3"


class GalleryStore:
    """What `Gallery` reads and writes through. Thread-safe; every method may block as `Gallery` says.

    Raises (any method):
        GalleryUnavailable: locked for too long, damaged, of a newer version, disk full, closed.
        GalleryUnwritable: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE
        self._lock = threading.Lock()
        self._poll_lock = threading.Lock()
        self._closed = False
        with translated(self._path):
            is_new = not self._path.exists() or self._path.stat().st_size == 0
        self._db = open_database(self._path)
        self._db.row_factory = sqlite3.Row
        try:
            with translated(folder):
                self.files = PhotoFiles(folder)
            if is_new:
                self._set_aside()
            self._sweep()
            self._poll = connect_reader(self._path)
        except BaseException:
            self._db.close()
            raise
        self._version = self._data_version()

    @property
    def folder(self) -> Path:
        """Where the database and the photos lie."""
        return self._path.parent

    def close(self) -> None:
        """Free the files. Twice is fine."""
        with self._lock, self._poll_lock:
            if not self._closed:
                self._closed = True
                self._poll.close()
                self._db.close()

    def changed(self) -> bool:
        """As `Gallery.changed`."""
        with self._poll_lock, translated(self._path):
            version = self._data_version()
            changed, self._version = version != self._version, version
        return changed

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view. Exclusive within this process."""
        with self._lock, translated(self._path):
            self._check_open()
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock of all processes from its first line; committed at the end."""
        with self._lock, translated(self._path):
            self._check_open()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself where the disk is full.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def storing(self) -> Iterator[tuple[sqlite3.Connection, contextlib.ExitStack]]:
        """`writing`, with a stack of what takes the new files back if the transaction fails."""
        with contextlib.ExitStack() as undo:
            with self.writing() as db:
                yield db, undo
            undo.pop_all()

    def delete_for_real(self, files: Sequence[Path]) -> None:
        """Delete files whose rows are gone, and what the database's log still holds of those rows."""
        unlink(files)
        with self._lock, translated(self._path):
            # Deleted rows are zeroed in the database, but older copies of their pages stay in the write-ahead log
            # until it is written back and cut.
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            log.warning("the gallery's log was in use and is cut later; deleted rows may stay in it until then")

    def _check_open(self) -> None:
        if self._closed:
            raise GalleryUnavailable(f"the gallery {self._path} is closed: the service is stopping")

    def _data_version(self) -> int:
        self._check_open()
        return int(self._poll.execute("PRAGMA data_version").fetchone()[0])

    def _set_aside(self) -> None:
        """Keep the photos of a database that somebody moved away: to a new one they are strays."""
        with self.writing() as db:
            aside = self.files.set_aside(self.files.strays(rows.file_ids(db)))
        if aside:
            log.warning("%d photos of an earlier gallery are set aside in %s", aside, self.files.found)

    def _sweep(self) -> None:
        """Delete the files that a crash left without a row."""
        with translated(self._path):
            if not self.files.strays(rows.file_ids(self._db)):
                return
        with self.writing() as db:
            # Looked at again under the write lock: whoever was just adding a photo is done.
            strays = self.files.strays(rows.file_ids(db))
            unlink(strays)
        if strays:
            log.info("deleted %d files that an interrupted enrolment or removal had left", len(strays))
