"""The gallery: members, their photos, and what face recognition made of them. SQLite beside folders of files.

    FOLDER/gallery.sqlite3       members, photos, rejected faces, embeddings (see `gallery_database`)
    FOLDER/photos/ID.EXT         the bytes as they were given: another model can read them again later
    FOLDER/thumbnails/ID.jpg     160 x 160, around the face
    FOLDER/rejected/ID.jpg       crops of faces that are not the member's

Several processes may use one gallery at once. A file is written while the write lock is held and before its row is
committed, and deleted after its row is gone; what a failure leaves in between is swept when a gallery is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from streamer.errors import MemberExists, MemberUnknown, PhotoUnknown
from streamer.vision import gallery_rows as rows
from streamer.vision import member_name
from streamer.vision.gallery_store import GalleryStore
from streamer.vision.known import Known, PhotoFace
from streamer.vision.member import Member, NewMember, NewPhoto, NewRejection, Photo, RejectedFace
from streamer.vision.photo_files import unlink


class Gallery:
    """The gallery in `folder`. Thread-safe; every method may block for milliseconds, or up to five seconds while
    another process writes, so call it off the event loop.

    Raises (any method):
        GalleryUnavailable: locked for too long, damaged, of a newer version, disk full, closed.
        GalleryUnwritable: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._store = GalleryStore(folder)
        self._files = self._store.files

    @property
    def folder(self) -> Path:
        """Where the database and the photos lie."""
        return self._store.folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the files. Twice is fine."""
        self._store.close()

    def changed(self) -> bool:
        """Has anything, by this process or another, been committed since the last call (the first: since opening)?

        Costs microseconds and never waits for a writer, so it may be asked several times a second.
        """
        return self._store.changed()

    # Members

    def members(self) -> list[Member]:
        """Everybody, by name."""
        with self._store.reading() as db:
            return rows.members(db)

    def member(self, name: str) -> Member:
        """The member of that name; case does not count.

        Raises:
            MemberUnknown: with the nearest names.
        """
        with self._store.reading() as db:
            return _member(db, rows.number_of(db, name))

    def add_member(
        self, name: str, *, display_name: str | None = None, group: str | None = None, consent: str | None = None
    ) -> Member:
        """A new member without photos. A group that is there already keeps its spelling.

        Raises:
            GalleryError: the name, the display name or the group cannot be used (see `member_name`).
            MemberExists: the name is taken, in whatever case.
        """
        with self._store.writing() as db:
            return _member(db, _insert_member(db, NewMember(name, display_name, group, consent)))

    def change_member(
        self,
        name: str,
        *,
        display_name: str | None = "",
        group: str | None = "",
        consent: str | None = "",
    ) -> Member:
        """Change what is said about a member. "" leaves as it is, None takes away (the name is then what is shown).

        Raises:
            MemberUnknown
            GalleryError: the display name or the group cannot be used.
        """
        with self._store.writing() as db:
            number = rows.number_of(db, name)
            if display_name != "":
                shown = member_name.clean_text(display_name or "", "display name")
                db.execute("UPDATE members SET display_name = coalesce(?, name) WHERE id = ?", (shown, number))
            if group != "":
                spelt = rows.group_spelling(db, member_name.clean_text(group or "", "group"))
                db.execute("UPDATE members SET group_name = ? WHERE id = ?", (spelt, number))
            if consent != "":
                db.execute("UPDATE members SET consent = ? WHERE id = ?", (consent, number))
            return _member(db, number)

    def remove_member(self, name: str, *, only_empty: bool = False) -> Member | None:
        """Delete a member with photos, thumbnails, rejected faces and embeddings, for real; what was deleted.

        Args:
            only_empty: Leave a member that has photos or rejected faces; the answer is then None.

        Raises:
            MemberUnknown
        """
        with self._store.writing() as db:
            number = rows.number_of(db, name)
            member = _member(db, number)
            if only_empty and (member.photos or member.rejected):
                return None
            files = [self._files.rejected_path(face.id) for face in member.rejected]
            for row in rows.photo_rows(db, number):
                files += self._files.paths(row["id"], row["extension"])
            db.execute("DELETE FROM members WHERE id = ?", (number,))
        self._store.delete_for_real(files)
        return member

    # Photos

    def find_photo(self, name: str, data: bytes) -> Photo | None:
        """The member's photo with exactly these bytes, if it is there. Raises `MemberUnknown`."""
        with self._store.reading() as db:
            return rows.photo_where(db, rows.number_of(db, name), "sha256", _digest(data))

    def add_photo(self, name: str, new: NewPhoto) -> Photo:
        """Store a photo with its thumbnail and embedding. The same bytes twice give the photo that is there.

        Raises:
            MemberUnknown
        """
        with self._store.storing() as (db, undo):
            return self._store_photo(db, undo, rows.number_of(db, name), new)

    def enrol(
        self,
        new: NewMember,
        photos: Sequence[NewPhoto],
        rejected: Sequence[NewRejection] = (),
        *,
        regroup: bool = False,
    ) -> tuple[list[Photo], list[RejectedFace]]:
        """Store photos and rejected faces of one member, all or none; the member is made if it is not there.

        Args:
            new: Of a member that is there only what it lacks is taken over.
            regroup: The group is taken over in any case.

        Raises:
            GalleryError: the name, the display name or the group cannot be used.
        """
        with self._store.storing() as (db, undo):
            try:
                number = rows.number_of(db, new.name)
            except MemberUnknown:
                number = _insert_member(db, new)
            rows.fill_in(db, number, new, regroup)
            stored = [self._store_photo(db, undo, number, photo) for photo in photos]
            return stored, [self._store_rejected(db, undo, number, face) for face in rejected]

    def remove_photo(self, name: str, photo_id: str) -> None:
        """Delete one photo with its thumbnail and embeddings, for real.

        Raises:
            MemberUnknown: no such member, or no such photo of that member.
        """
        with self._store.writing() as db:
            row = rows.photo_row(db, name, photo_id)
            db.execute("DELETE FROM photos WHERE id = ?", (row["id"],))
        self._store.delete_for_real(self._files.paths(row["id"], row["extension"]))

    def thumbnail(self, name: str, photo_id: str) -> bytes:
        """The JPEG thumbnail of a member's photo. Raises `MemberUnknown`, also where its file is gone."""
        with self._store.reading() as db:
            row = rows.photo_row(db, name, photo_id)
            return self._files.thumbnail(row["id"])

    def photo_bytes(self, photo_id: str) -> bytes:
        """The photo as it was given.

        Raises:
            MemberUnknown: no such photo, or its file is gone.
        """
        with self._store.reading() as db:
            row = db.execute("SELECT extension FROM photos WHERE id = ?", (photo_id,)).fetchone()
            if row is None:
                raise PhotoUnknown(f"no photo {photo_id[:40]!r} in the gallery; it was removed")
            return self._files.photo(photo_id, row["extension"])

    # Rejected faces

    def add_rejected(self, name: str, new: NewRejection) -> RejectedFace:
        """Store a face that is not the member's. The same bytes twice give the one that is there.

        Raises:
            MemberUnknown
        """
        with self._store.storing() as (db, undo):
            return self._store_rejected(db, undo, rows.number_of(db, name), new)

    def find_rejected(self, name: str, jpeg: bytes) -> RejectedFace | None:
        """The member's rejected face with exactly these bytes, if it is there. Raises `MemberUnknown`."""
        with self._store.reading() as db:
            return _rejected(db, rows.number_of(db, name), _digest(jpeg))

    def rejected_embeddings(self, name: str, model_id: str) -> dict[str, np.ndarray]:
        """Id to (d,) float32 of the member's rejected faces that `model_id` embedded. Raises `MemberUnknown`."""
        with self._store.reading() as db:
            return rows.rejected_vectors(db, rows.number_of(db, name), model_id)

    def remove_rejected(self, name: str, rejection_id: str) -> None:
        """Take a rejection back: delete its crop and embeddings, for real.

        Raises:
            MemberUnknown: no such member, or no such rejected face of that member.
        """
        with self._store.writing() as db:
            row = rows.rejected_row(db, name, rejection_id)
            db.execute("DELETE FROM rejections WHERE id = ?", (row["id"],))
        self._store.delete_for_real([self._files.rejected_path(row["id"])])

    def rejected_jpeg(self, name: str, rejection_id: str) -> bytes:
        """The crop of a member's rejected face. Raises `MemberUnknown`, also where its file is gone."""
        with self._store.reading() as db:
            return self._files.rejected(rows.rejected_row(db, name, rejection_id)["id"])

    # Embeddings

    def known(self, model_id: str) -> Known:
        """Every face that `model_id` embedded, as naming wants it. Members without one are left out."""
        with self._store.reading() as db:
            return rows.known(db, model_id)

    def snapshot(self, model_id: str) -> tuple[list[Member], Known]:
        """`members` and `known` of one moment; each member's embeddings are in the order of its photos."""
        with self._store.reading() as db:
            return rows.members(db), rows.known(db, model_id)

    def photos_without(self, model_id: str) -> list[Photo]:
        """Photos that `model_id` has not embedded yet: what a change of the model has to read again."""
        with self._store.reading() as db:
            missing = db.execute(
                f"SELECT {rows.PHOTO_COLUMNS} FROM photos WHERE id NOT IN "
                "(SELECT photo_id FROM embeddings WHERE model_id = ?) ORDER BY rowid",
                (model_id,),
            ).fetchall()
            return [rows.as_photo(row, rows.models_of(db, row["id"])) for row in missing]

    def rejected_without(self, model_id: str) -> list[tuple[str, RejectedFace]]:
        """(member, rejected face) that `model_id` has not embedded yet."""
        with self._store.reading() as db:
            everybody = rows.members(db)
        return [(member.name, face) for member in everybody for face in member.rejected if model_id not in face.models]

    def add_embedding(self, photo_id: str, model_id: str, face: PhotoFace) -> None:
        """Store what a further model made of a photo's face. A photo removed meanwhile is no error."""
        rows.check_embedding(face.embedding)
        with self._store.writing() as db:
            if db.execute("SELECT 1 FROM photos WHERE id = ?", (photo_id,)).fetchone():
                rows.insert_embedding(db, photo_id, model_id, face)

    def add_rejected_embedding(self, rejection_id: str, model_id: str, embedding: np.ndarray) -> None:
        """Store what a further model made of a rejected face. One removed meanwhile is no error."""
        rows.check_embedding(embedding)
        with self._store.writing() as db:
            if db.execute("SELECT 1 FROM rejections WHERE id = ?", (rejection_id,)).fetchone():
                rows.insert_rejected_embedding(db, rejection_id, model_id, embedding)

    def remark_rejected(self, rejection_id: str, remark: str) -> None:
        """Say something about a rejected face. One removed meanwhile is no error."""
        with self._store.writing() as db:
            db.execute("UPDATE rejections SET remark = ? WHERE id = ?", (remark, rejection_id))

    # Inside

    def _store_photo(self, db: sqlite3.Connection, undo: contextlib.ExitStack, number: int, new: NewPhoto) -> Photo:
        rows.check_embedding(new.face.embedding)
        digest = _digest(new.data)
        present = rows.photo_where(db, number, "sha256", digest)
        if present is not None:
            return present
        photo_id = secrets.token_hex(8)
        undo.callback(unlink, self._files.paths(photo_id, new.extension))
        self._files.write(photo_id, new.extension, new.data, new.thumbnail)
        rows.insert_photo(db, photo_id, number, digest, new)
        rows.insert_embedding(db, photo_id, new.model_id, new.face)
        added = rows.photo_where(db, number, "id", photo_id)
        assert added is not None
        return added

    def _store_rejected(
        self, db: sqlite3.Connection, undo: contextlib.ExitStack, number: int, new: NewRejection
    ) -> RejectedFace:
        rows.check_embedding(new.face.embedding)
        digest = _digest(new.jpeg)
        present = _rejected(db, number, digest)
        if present is not None:
            return present
        rejection_id = secrets.token_hex(8)
        undo.callback(unlink, [self._files.rejected_path(rejection_id)])
        self._files.write_rejected(rejection_id, new.jpeg)
        rows.insert_rejection(db, rejection_id, number, digest, new)
        added = _rejected(db, number, digest)
        assert added is not None
        return added


def _member(db: sqlite3.Connection, number: int) -> Member:
    return rows.members(db, "WHERE members.id = ?", (number,))[0]


def _insert_member(db: sqlite3.Connection, new: NewMember) -> int:
    cleaned = member_name.clean(new.name)
    shown = member_name.clean_text(new.display_name or "", "display name")
    group = rows.group_spelling(db, member_name.clean_text(new.group or "", "group"))
    taken = db.execute("SELECT name FROM members WHERE key = ?", (member_name.key(cleaned),)).fetchone()
    if taken is not None:
        raise MemberExists(f"there is a member {taken[0]!r} already; add photos to it, or choose another name")
    made = db.execute(
        "INSERT INTO members (name, key, display_name, group_name, consent, created_at) VALUES (?,?,?,?,?,?)",
        (cleaned, member_name.key(cleaned), shown or cleaned, group, new.consent, rows.now()),
    )
    assert made.lastrowid is not None
    return made.lastrowid


def _rejected(db: sqlite3.Connection, number: int, digest: str) -> RejectedFace | None:
    row = db.execute(
        f"SELECT {rows.REJECTION_COLUMNS} FROM rejections WHERE member_id = ? AND sha256 = ?", (number, digest)
    ).fetchone()
    return None if row is None else rows.as_rejected(row, rows.rejected_models(db, row["id"]))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
