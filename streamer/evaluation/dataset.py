"""A data set on disk: people to enrol, photos and clips with what is true about them.

DATASET/gallery/<member>/*.jpg|png     photos to enrol
DATASET/photos/*  + photos.json        {"a.jpg": ["member", ...]}; everyone else in it is unknown
DATASET/clips/*   + clips.json         {"a.mp4": [{"from": 0, "to": 19, "members": ["x"]}, ...]}; frames, inclusive
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from streamer.errors import ConfigError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

T = TypeVar("T")


class Shot(BaseModel):
    """Frames of a clip, both ends included, and who is named right in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int = Field(alias="from", ge=0)
    last: int = Field(alias="to", ge=0)
    members: frozenset[str]

    @model_validator(mode="after")
    def _in_order(self) -> Shot:
        if self.last < self.first:
            raise ValueError(f"a shot from frame {self.first} to frame {self.last} ends before it begins")
        return self


@dataclass(frozen=True, slots=True)
class Dataset:
    """What lies in the folder; a part that is absent is empty."""

    folder: Path
    gallery: Mapping[str, tuple[Path, ...]]
    photos: Mapping[Path, frozenset[str]]
    clips: Mapping[Path, tuple[Shot, ...]]


def read_dataset(folder: Path) -> Dataset:
    """The data set in `folder`.

    Raises:
        ConfigError: it is not laid out as described, names a file that is not there, or a member without photos.
    """
    if not (folder / "gallery").is_dir():
        raise ConfigError(f"{folder} is no data set: it has no folder gallery/<member>/ with photos to enrol")
    gallery = {
        person.name: tuple(sorted(path for path in person.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES))
        for person in sorted((folder / "gallery").iterdir())
        if person.is_dir() and not person.name.startswith(".")
    }
    if empty := [name for name, found in gallery.items() if not found]:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        raise ConfigError(f"{folder / 'gallery' / empty[0]} holds no photo to enrol ({kinds}); add one or remove it")
    photos = _annotations(folder, "photos", TypeAdapter(dict[str, frozenset[str]]))
    clips = _annotations(folder, "clips", TypeAdapter(dict[str, tuple[Shot, ...]]))
    mentioned = {name for names in photos.values() for name in names}
    mentioned |= {name for shots in clips.values() for shot in shots for name in shot.members}
    strangers = sorted(mentioned - gallery.keys())
    if strangers:
        raise ConfigError(f"{folder}: {', '.join(strangers)} is expected somewhere but has no folder in gallery/")
    if not photos and not clips:
        raise ConfigError(f"{folder} holds neither photos.json nor clips.json: there is nothing to measure")
    return Dataset(folder, gallery, photos, clips)


def _annotations(folder: Path, kind: str, adapter: TypeAdapter[dict[str, T]]) -> dict[Path, T]:
    source = folder / f"{kind}.json"
    if not source.exists():
        if (folder / kind).is_dir() and any((folder / kind).iterdir()):
            raise ConfigError(f"{folder / kind} has no {kind}.json beside it that says who is in what; write one")
        return {}
    try:
        said: dict[str, Any] = adapter.validate_json(source.read_bytes())
    except (OSError, ValidationError) as exc:
        why = str(exc)
        if isinstance(exc, ValidationError):
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            why = f"{where}: {first['msg']}" if where else first["msg"]
        raise ConfigError(f"{source} cannot be used: {why}") from exc
    missing = [name for name in said if not (folder / kind / name).is_file()]
    if missing:
        raise ConfigError(f"{source} names {missing[0]}, which is not in {folder / kind}")
    return {folder / kind / name: value for name, value in said.items()}
