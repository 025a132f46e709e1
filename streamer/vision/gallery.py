"""The gallery: members, their photos, and what face recognition made of them. SQLite beside two folders of files.

    FOLDER/gallery.sqlite3       members, photos, embeddings (see `gallery_database`)
    FOLDER/photos/ID.EXT         the bytes as they were given: another model can read them again later
    FOLDER/thumbnails/ID.jpg     160 x 160, around the face

Several processes may use one gallery at once. A file is written while the write lock is held and before its row is
committed, and deleted after its row is gone; what a failure leaves in between is swept when a gallery is opened.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from streamer.errors import GalleryUnavailable, MemberExists, MemberUnknown, PhotoRefused
from streamer.vision import member_name
from streamer.vision.gallery_database import connect_reader, open_database, translated
from streamer.vision.known import Known, PhotoFace
from streamer.vision.member import Member, NewPhoto, Photo
from streamer.vision.photo_files import PhotoFiles, unlink

log = logging.getLogger(__name__)

DATABASE = "gallery.sqlite3"

_PHOTO_COLUMNS = (
    "id, member_id, extension, file, source, width, height, bytes, face_x0, face_y0, face_x1, face_y1, remark, added_at"
)


class Gallery:
    """The gallery in `folder`. Thread-safe; every method may block for milliseconds, or up to five seconds while
    another process writes, so call it off the event loop.

    Raises (any method):
        GalleryUnavailable: locked for too long, damaged, of a newer version, disk full, closed.
        ConfigError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE
        self._lock = threading.Lock()
        self._poll_lock = threading.Lock()
        self._closed = False
        self._db = open_database(self._path)
        self._db.row_factory = sqlite3.Row
        try:
            with translated(folder):
                self._files = PhotoFiles(folder)
            self._sweep()
            self._poll = connect_reader(self._path)
        except BaseException:
            self._db.close()
            raise
        self._version = self._data_version()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the files. Twice is fine."""
        with self._lock, self._poll_lock:
            if not self._closed:
                self._closed = True
                self._poll.close()
                self._db.close()

    def changed(self) -> bool:
        """Has anything, by this process or another, been committed since the last call (the first: since opening)?

        Costs microseconds and never waits for a writer, so it may be asked several times a second.
        """
        with self._poll_lock, translated(self._path):
            version = self._data_version()
            changed, self._version = version != self._version, version
        return changed

    # Members

    def members(self) -> list[Member]:
        """Everybody, by name."""
        with self._reading() as db:
            return self._members(db, "", ())

    def member(self, name: str) -> Member:
        """The member of that name; case does not count.

        Raises:
            MemberUnknown: with the nearest names.
        """
        with self._reading() as db:
            number = _number(db, name)
            return self._members(db, "WHERE members.id = ?", (number,))[0]

    def add_member(
        self, name: str, *, display_name: str | None = None, group: str | None = None, consent: str | None = None
    ) -> Member:
        """A new member without photos.

        Raises:
            GalleryError: the name cannot be used (see `member_name.clean`).
            MemberExists: the name is taken, in whatever case.
        """
        cleaned = member_name.clean(name)
        values = (cleaned, member_name.key(cleaned), display_name or cleaned, group, consent, _now())
        with self._writing() as db:
            taken = db.execute("SELECT name FROM members WHERE key = ?", values[1:2]).fetchone()
            if taken is not None:
                raise MemberExists(f"there is a member {taken[0]!r} already; add photos to it, or choose another name")
            db.execute(
                "INSERT INTO members (name, key, display_name, group_name, consent, created_at) VALUES (?,?,?,?,?,?)",
                values,
            )
        return self.member(cleaned)

    def remove_member(self, name: str, *, only_empty: bool = False) -> Member | None:
        """Delete a member with photos, thumbnails and embeddings, for real; the answer is what was deleted.

        Args:
            only_empty: Leave a member that has photos; the answer is then None.

        Raises:
            MemberUnknown
        """
        with self._writing() as db:
            number = _number(db, name)
            member = self._members(db, "WHERE members.id = ?", (number,))[0]
            if only_empty and member.photos:
                return None
            files = [path for row in _photo_rows(db, number) for path in self._files.paths(row["id"], row["extension"])]
            db.execute("DELETE FROM members WHERE id = ?", (number,))
        self._delete_for_real(files)
        return member

    # Photos

    def find_photo(self, name: str, data: bytes) -> Photo | None:
        """The member's photo with exactly these bytes, if it is there. Raises `MemberUnknown`."""
        digest = hashlib.sha256(data).hexdigest()
        with self._reading() as db:
            return self._photo(db, _number(db, name), "sha256", digest)

    def add_photo(self, name: str, new: NewPhoto) -> Photo:
        """Store a photo with its thumbnail and embedding. The same bytes twice give the photo that is there.

        Raises:
            MemberUnknown
        """
        _check_embedding(new.face.embedding)
        digest = hashlib.sha256(new.data).hexdigest()
        with contextlib.ExitStack() as undo:
            with self._writing() as db:
                number = _number(db, name)
                present = self._photo(db, number, "sha256", digest)
                if present is not None:
                    return present
                photo_id = secrets.token_hex(8)
                undo.callback(unlink, self._files.paths(photo_id, new.extension))
                self._files.write(photo_id, new.extension, new.data, new.thumbnail)
                _insert_photo(db, photo_id, number, digest, new)
                _insert_embedding(db, photo_id, new.model_id, new.face)
                added = self._photo(db, number, "id", photo_id)
            undo.pop_all()
        assert added is not None
        return added

    def remove_photo(self, name: str, photo_id: str) -> None:
        """Delete one photo with its thumbnail and embeddings, for real.

        Raises:
            MemberUnknown: no such member, or no such photo of that member.
        """
        with self._writing() as db:
            row = _photo_row(db, name, photo_id)
            db.execute("DELETE FROM photos WHERE id = ?", (row["id"],))
        self._delete_for_real(self._files.paths(row["id"], row["extension"]))

    def thumbnail(self, name: str, photo_id: str) -> bytes:
        """The JPEG thumbnail of a member's photo. Raises `MemberUnknown`, also where its file is gone."""
        with self._reading() as db:
            row = _photo_row(db, name, photo_id)
            return self._files.thumbnail(row["id"])

    # Embeddings

    def known(self, model_id: str) -> Known:
        """Every face that `model_id` embedded, as naming wants it. Members without one are left out."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT members.name, vector FROM embeddings JOIN photos ON photos.id = photo_id "
                "JOIN members ON members.id = member_id WHERE model_id = ? ORDER BY members.key, photos.rowid",
                (model_id,),
            ).fetchall()
        if not rows:
            return Known.nobody(model_id)
        names = tuple(dict.fromkeys(row["name"] for row in rows))
        index = {name: number for number, name in enumerate(names)}
        owners = np.array([index[row["name"]] for row in rows], np.int64)
        embeddings = np.stack([np.frombuffer(row["vector"], "<f4") for row in rows]).astype(np.float32)
        return Known(model_id, names, owners, embeddings)

    def photos_without(self, model_id: str) -> list[Photo]:
        """Photos that `model_id` has not embedded yet: what a change of the model has to read again."""
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {_PHOTO_COLUMNS} FROM photos WHERE id NOT IN "
                "(SELECT photo_id FROM embeddings WHERE model_id = ?) ORDER BY rowid",
                (model_id,),
            ).fetchall()
            return [_as_photo(row, _models(db, row["id"])) for row in rows]

    def photo_bytes(self, photo_id: str) -> bytes:
        """The photo as it was given.

        Raises:
            MemberUnknown: no such photo, or its file is gone.
        """
        with self._reading() as db:
            row = db.execute("SELECT extension FROM photos WHERE id = ?", (photo_id,)).fetchone()
            if row is None:
                raise MemberUnknown(f"no photo {photo_id[:40]!r} in the gallery; it was removed")
            return self._files.photo(photo_id, row["extension"])

    def add_embedding(self, photo_id: str, model_id: str, face: PhotoFace) -> None:
        """Store what a further model made of a photo's face. A photo removed meanwhile is no error."""
        _check_embedding(face.embedding)
        with self._writing() as db:
            if db.execute("SELECT 1 FROM photos WHERE id = ?", (photo_id,)).fetchone():
                _insert_embedding(db, photo_id, model_id, face)

    # Inside

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view. Exclusive within this process."""
        with self._lock, translated(self._path):
            self._check_open()
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
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

    def _check_open(self) -> None:
        if self._closed:
            raise GalleryUnavailable(f"the gallery {self._path} is closed: the service is stopping")

    def _data_version(self) -> int:
        self._check_open()
        return int(self._poll.execute("PRAGMA data_version").fetchone()[0])

    def _members(self, db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Member]:
        found = []
        for row in db.execute(f"SELECT * FROM members {where} ORDER BY key", values).fetchall():
            photos = tuple(_as_photo(photo, _models(db, photo["id"])) for photo in _photo_rows(db, row["id"]))
            group, consent = row["group_name"], row["consent"]
            found.append(Member(row["name"], row["display_name"], group, consent, row["created_at"], photos))
        return found

    def _photo(self, db: sqlite3.Connection, number: int, column: str, value: str) -> Photo | None:
        row = db.execute(
            f"SELECT {_PHOTO_COLUMNS} FROM photos WHERE member_id = ? AND {column} = ?", (number, value)
        ).fetchone()
        return None if row is None else _as_photo(row, _models(db, row["id"]))

    def _delete_for_real(self, files: Sequence[Path]) -> None:
        unlink(files)
        with self._lock, translated(self._path):
            # Deleted rows are zeroed in the database, but older copies of their pages stay in the write-ahead log
            # until it is written back and cut.
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            log.warning("the gallery's log was in use and is cut later; deleted rows may stay in it until then")

    def _sweep(self) -> None:
        """Delete the files that a crash left without a row."""
        with translated(self._path):
            if not self._files.strays(_photo_ids(self._db)):
                return
        with self._writing() as db:
            # Looked at again under the write lock: whoever was just adding a photo is done.
            strays = self._files.strays(_photo_ids(db))
            unlink(strays)
        if strays:
            log.info("deleted %d files that an interrupted enrolment or removal had left", len(strays))


def _number(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT id FROM members WHERE key = ?", (member_name.key(name),)).fetchone()
    if row is not None:
        return int(row[0])
    names = [row[0] for row in db.execute("SELECT name FROM members ORDER BY key")]
    near = difflib.get_close_matches(name[: member_name.MAX_CHARACTERS], names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif names:
        hint = f"known: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
    else:
        hint = "the gallery is empty; add a member with photos first"
    raise MemberUnknown(f"no member {name[: member_name.MAX_CHARACTERS]!r}; {hint}")


def _photo_rows(db: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    return db.execute(f"SELECT {_PHOTO_COLUMNS} FROM photos WHERE member_id = ? ORDER BY rowid", (number,)).fetchall()


def _photo_ids(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT id FROM photos")}


def _photo_row(db: sqlite3.Connection, name: str, photo_id: str) -> sqlite3.Row:
    for row in _photo_rows(db, _number(db, name)):
        if row["id"] == photo_id:
            return row
    raise MemberUnknown(f"{name!r} has no photo {photo_id[:40]!r}; list the member to see its photos")


def _models(db: sqlite3.Connection, photo_id: str) -> tuple[str, ...]:
    rows = db.execute("SELECT model_id FROM embeddings WHERE photo_id = ? ORDER BY model_id", (photo_id,))
    return tuple(row[0] for row in rows)


def _as_photo(row: sqlite3.Row, models: tuple[str, ...]) -> Photo:
    return Photo(
        id=row["id"],
        file=row["file"],
        source=row["source"],
        width=row["width"],
        height=row["height"],
        bytes=row["bytes"],
        face_xyxy=(row["face_x0"], row["face_y0"], row["face_x1"], row["face_y1"]),
        remark=row["remark"],
        added_at=row["added_at"],
        models=models,
    )


def _insert_photo(db: sqlite3.Connection, photo_id: str, number: int, digest: str, new: NewPhoto) -> None:
    box = [float(value) for value in new.face_xyxy]
    about = (photo_id, number, new.extension, new.file, new.source, new.width, new.height, len(new.data))
    db.execute(
        f"INSERT INTO photos ({_PHOTO_COLUMNS}, sha256) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (*about, *box, new.remark, _now(), digest),
    )


def _insert_embedding(db: sqlite3.Connection, photo_id: str, model_id: str, face: PhotoFace) -> None:
    db.execute(
        "INSERT OR REPLACE INTO embeddings (photo_id, model_id, vector, score, sharpness, yaw, made_at) "
        "VALUES (?,?,?,?,?,?,?)",
        (
            photo_id,
            model_id,
            np.ascontiguousarray(face.embedding, "<f4").tobytes(),
            float(face.score),
            float(face.sharpness),
            float(face.yaw),
            _now(),
        ),
    )


def _check_embedding(embedding: np.ndarray) -> None:
    length = float(np.linalg.norm(embedding)) if embedding.ndim == 1 and embedding.size else 0.0
    # A face of which recognition makes nothing (NaN, zeros) would match anybody, or break the comparison of all.
    if not np.isfinite(length) or abs(length - 1) > 1e-3:
        raise PhotoRefused("face recognition gave no usable embedding for this face; use another photo")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
