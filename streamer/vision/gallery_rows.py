"""Rows of the gallery's tables as the gallery reads and writes them. Every function is called within a transaction."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from streamer.errors import MemberUnknown, PhotoRefused, PhotoUnknown
from streamer.vision import member_name
from streamer.vision.known import Known, PhotoFace
from streamer.vision.member import Member, NewMember, NewPhoto, NewRejection, Photo, RejectedFace

PHOTO_COLUMNS = (
    "id, member_id, extension, file, source, width, height, bytes, face_x0, face_y0, face_x1, face_y1, remark, added_at"
)
REJECTION_COLUMNS = "id, member_id, source, face_x0, face_y0, face_x1, face_y1, width, height, remark, added_at"


def number_of(db: sqlite3.Connection, name: str) -> int:
    """Raises `MemberUnknown`, with the nearest names."""
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


def photo_rows(db: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    """Photos of member `number`, oldest first."""
    return db.execute(f"SELECT {PHOTO_COLUMNS} FROM photos WHERE member_id = ? ORDER BY rowid", (number,)).fetchall()


def file_ids(db: sqlite3.Connection) -> set[str]:
    """Of photos and of rejected faces: what may have files."""
    return {row[0] for row in db.execute("SELECT id FROM photos UNION ALL SELECT id FROM rejections")}


def photo_row(db: sqlite3.Connection, name: str, photo_id: str) -> sqlite3.Row:
    """Raises `MemberUnknown` where the member has no such photo."""
    for row in photo_rows(db, number_of(db, name)):
        if row["id"] == photo_id:
            return row
    raise PhotoUnknown(f"{name!r} has no photo {photo_id[:40]!r}; list the member to see its photos")


def models_of(db: sqlite3.Connection, photo_id: str) -> tuple[str, ...]:
    """Models that embedded a photo's face."""
    rows = db.execute("SELECT model_id FROM embeddings WHERE photo_id = ? ORDER BY model_id", (photo_id,))
    return tuple(row[0] for row in rows)


def as_photo(row: sqlite3.Row, models: tuple[str, ...]) -> Photo:
    """The row as the gallery gives it."""
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
        extension=row["extension"],
    )


def insert_photo(db: sqlite3.Connection, photo_id: str, number: int, digest: str, new: NewPhoto) -> None:
    """A photo without its embedding."""
    box = [float(value) for value in new.face_xyxy]
    about = (photo_id, number, new.extension, new.file, new.source, new.width, new.height, len(new.data))
    db.execute(
        f"INSERT INTO photos ({PHOTO_COLUMNS}, sha256) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (*about, *box, new.remark, now(), digest),
    )


def insert_embedding(db: sqlite3.Connection, photo_id: str, model_id: str, face: PhotoFace) -> None:
    """What `model_id` made of a photo's face."""
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
            now(),
        ),
    )


def check_embedding(embedding: np.ndarray) -> None:
    """Raises `PhotoRefused` for an embedding that is not of length 1."""
    length = float(np.linalg.norm(embedding)) if embedding.ndim == 1 and embedding.size else 0.0
    # A face of which recognition makes nothing (NaN, zeros) would match anybody, or break the comparison of all.
    if not np.isfinite(length) or abs(length - 1) > 1e-3:
        raise PhotoRefused("face recognition gave no usable embedding for this face; use another photo")


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def members(db: sqlite3.Connection, where: str = "", values: Sequence[object] = ()) -> list[Member]:
    """Members with what belongs to them, by name; `where` is a clause over the table `members`."""
    found = []
    for row in db.execute(f"SELECT * FROM members {where} ORDER BY key", values).fetchall():
        photos = tuple(as_photo(photo, models_of(db, photo["id"])) for photo in photo_rows(db, row["id"]))
        rejected = tuple(as_rejected(entry, rejected_models(db, entry["id"])) for entry in rejected_rows(db, row["id"]))
        about = (row["name"], row["display_name"], row["group_name"], row["consent"], row["created_at"])
        found.append(Member(*about, photos, rejected))
    return found


def photo_where(db: sqlite3.Connection, number: int, column: str, value: str) -> Photo | None:
    """The photo of member `number` whose `column` is `value`."""
    row = db.execute(
        f"SELECT {PHOTO_COLUMNS} FROM photos WHERE member_id = ? AND {column} = ?", (number, value)
    ).fetchone()
    return None if row is None else as_photo(row, models_of(db, row["id"]))


def group_spelling(db: sqlite3.Connection, group: str | None) -> str | None:
    """`group` as the gallery spells it already: one group, whatever the case."""
    if group is None:
        return None
    wanted = member_name.key(group)
    for row in db.execute("SELECT DISTINCT group_name FROM members WHERE group_name IS NOT NULL ORDER BY group_name"):
        if member_name.key(row[0]) == wanted:
            return str(row[0])
    return group


def fill_in(db: sqlite3.Connection, number: int, new: NewMember, regroup: bool) -> None:
    """Take over what `new` says and member `number` lacks; `regroup`: its group in any case.

    Raises:
        GalleryError: the display name or the group cannot be used.
    """
    group = group_spelling(db, member_name.clean_text(new.group or "", "group"))
    shown = member_name.clean_text(new.display_name or "", "display name")
    order = "coalesce(?, group_name)" if regroup else "coalesce(group_name, ?)"
    db.execute(
        f"UPDATE members SET group_name = {order}, consent = coalesce(consent, ?), "
        "display_name = CASE WHEN display_name = name THEN coalesce(?, name) ELSE display_name END WHERE id = ?",
        (group, new.consent, shown, number),
    )


def rejected_vectors(db: sqlite3.Connection, number: int, model_id: str) -> dict[str, np.ndarray]:
    """Id to embedding of member `number`'s rejected faces, as far as `model_id` embedded them."""
    found = db.execute(
        "SELECT rejections.id, vector FROM rejection_embeddings JOIN rejections ON rejections.id = rejection_id "
        "WHERE member_id = ? AND model_id = ? ORDER BY rejections.rowid",
        (number, model_id),
    )
    return {row["id"]: np.frombuffer(row["vector"], "<f4").astype(np.float32) for row in found}


def rejected_rows(db: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    """Rejected faces of member `number`, oldest first."""
    return db.execute(
        f"SELECT {REJECTION_COLUMNS} FROM rejections WHERE member_id = ? ORDER BY rowid", (number,)
    ).fetchall()


def rejected_row(db: sqlite3.Connection, name: str, rejection_id: str) -> sqlite3.Row:
    """Raises `MemberUnknown` where the member has no such rejected face."""
    for row in rejected_rows(db, number_of(db, name)):
        if row["id"] == rejection_id:
            return row
    raise PhotoUnknown(f"{name!r} has no rejected face {rejection_id[:40]!r}; list the member to see them")


def rejected_models(db: sqlite3.Connection, rejection_id: str) -> tuple[str, ...]:
    """Models that embedded a rejected face."""
    found = db.execute(
        "SELECT model_id FROM rejection_embeddings WHERE rejection_id = ? ORDER BY model_id", (rejection_id,)
    )
    return tuple(row[0] for row in found)


def as_rejected(row: sqlite3.Row, models: tuple[str, ...]) -> RejectedFace:
    """The row as the gallery gives it."""
    box = (row["face_x0"], row["face_y0"], row["face_x1"], row["face_y1"])
    return RejectedFace(
        row["id"], row["source"], row["width"], row["height"], box, row["remark"], row["added_at"], models
    )


def insert_rejection(db: sqlite3.Connection, rejection_id: str, number: int, digest: str, new: NewRejection) -> None:
    """A rejected face with its embedding."""
    box = [float(value) for value in new.face.box_xyxy]
    db.execute(
        f"INSERT INTO rejections ({REJECTION_COLUMNS}, sha256) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (rejection_id, number, new.source, *box, new.width, new.height, None, now(), digest),
    )
    insert_rejected_embedding(db, rejection_id, new.model_id, new.face.embedding)


def insert_rejected_embedding(db: sqlite3.Connection, rejection_id: str, model_id: str, embedding: np.ndarray) -> None:
    """What `model_id` made of a rejected face."""
    vector = np.ascontiguousarray(embedding, "<f4").tobytes()
    db.execute(
        "INSERT OR REPLACE INTO rejection_embeddings (rejection_id, model_id, vector, made_at) VALUES (?,?,?,?)",
        (rejection_id, model_id, vector, now()),
    )


def known(db: sqlite3.Connection, model_id: str) -> Known:
    """Every face that `model_id` embedded. Members without one are left out, with what was rejected for them."""
    enrolled = db.execute(
        "SELECT members.name, vector FROM embeddings JOIN photos ON photos.id = photo_id "
        "JOIN members ON members.id = member_id WHERE model_id = ? ORDER BY members.key, photos.rowid",
        (model_id,),
    ).fetchall()
    if not enrolled:
        return Known.nobody(model_id)
    rejected = db.execute(
        "SELECT members.name, vector FROM rejection_embeddings JOIN rejections ON rejections.id = rejection_id "
        "JOIN members ON members.id = member_id WHERE model_id = ? ORDER BY members.key, rejections.rowid",
        (model_id,),
    ).fetchall()
    names = tuple(dict.fromkeys(row["name"] for row in enrolled))
    index = {name: number for number, name in enumerate(names)}
    against = [row for row in rejected if row["name"] in index]
    dimension = len(enrolled[0]["vector"]) // 4
    return Known(
        model_id,
        names,
        np.array([index[row["name"]] for row in enrolled], np.int64),
        _vectors(enrolled, dimension),
        np.array([index[row["name"]] for row in against], np.int64),
        _vectors(against, dimension),
    )


def _vectors(found: Sequence[sqlite3.Row], dimension: int) -> np.ndarray:
    if not found:
        return np.zeros((0, dimension), np.float32)
    return np.stack([np.frombuffer(row["vector"], "<f4") for row in found]).astype(np.float32)
