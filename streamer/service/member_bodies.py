"""Bodies of the routes about members: what may be sent, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from streamer.service.enrolment import Enrolled
from streamer.vision.member import Member, NewMember, Photo, RejectedFace

Text = Annotated[str, Field(min_length=1, max_length=100)]
Note = Annotated[str, Field(max_length=1000)]


class MemberSpec(BaseModel):
    """A member to make. Sent as JSON, or as fields of a form beside photos."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="1 to 64 characters of any script; no slashes or control characters.")
    display_name: Text | None = Field(None, description="As shown.")
    group: Text | None = Field(None, description="The group it is in.")
    consent: Note | None = Field(None, description="A note on the person's consent.")

    def new(self) -> NewMember:
        """As enrolment takes it."""
        return NewMember(self.name, self.display_name, self.group, self.consent)


class MemberPatch(BaseModel):
    """What to change about a member. A key that is left out stays; `null` takes away."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"group": "IVE", "display_name": "Rei"}, {"group": None}]}
    )

    display_name: Text | None = None
    group: Text | None = None
    consent: Note | None = None

    def given(self) -> dict[str, str | None]:
        """Only the keys that were sent, as the gallery takes them."""
        return {key: getattr(self, key) or None for key in self.model_fields_set}


class PhotoInfo(BaseModel):
    """A photo that stands for a member."""

    id: str
    thumbnail_url: str = Field(description="JPEG, 160x160, around the face.")
    file: str
    source: str = Field(examples=["upload"])
    width: int
    height: int
    bytes: int
    face: list[float] = Field(description="x0, y0, x1, y1 in pixels of the upright photo")
    remark: str | None = Field(description="What to know about this photo; null: nothing.")
    added_at: str = Field(description="UTC")
    models: list[str] = Field(description="Recognition models that embedded the face.")

    @classmethod
    def of(cls, member: str, photo: Photo, root: str) -> Self:
        """Of a stored photo."""
        return cls(
            id=photo.id,
            thumbnail_url=f"{member_path(member, root)}/photos/{photo.id}/thumbnail.jpg",
            file=photo.file,
            source=photo.source,
            width=photo.width,
            height=photo.height,
            bytes=photo.bytes,
            face=[round(value, 1) for value in photo.face_xyxy],
            remark=photo.remark,
            added_at=photo.added_at,
            models=list(photo.models),
        )


class RejectedInfo(BaseModel):
    """A face of which a person said that it is not the member."""

    id: str
    crop_url: str = Field(description="JPEG, at most 320 pixels a side.")
    source: str = Field(examples=["stream 1a2b3c4d, track 7"])
    remark: str | None
    added_at: str = Field(description="UTC")

    @classmethod
    def of(cls, member: str, face: RejectedFace, root: str) -> Self:
        """Of a stored one."""
        url = f"{member_path(member, root)}/rejected/{face.id}/crop.jpg"
        return cls(id=face.id, crop_url=url, source=face.source, remark=face.remark, added_at=face.added_at)


class MemberInfo(BaseModel):
    """A person with a name."""

    name: str
    display_name: str
    group: str | None
    consent: str | None
    created_at: str = Field(description="UTC")
    photos: list[PhotoInfo]
    rejected: list[RejectedInfo] = Field(description="Faces that are not the member's: they weigh against the name.")
    notices: list[str] = Field(description="Photos that do not fit, members that look alike to the model in use.")

    @classmethod
    def of(cls, member: Member, root: str, notices: Sequence[str] = ()) -> Self:
        """Of a stored member."""
        return cls(
            name=member.name,
            display_name=member.display_name,
            group=member.group,
            consent=member.consent,
            created_at=member.created_at,
            photos=[PhotoInfo.of(member.name, photo, root) for photo in member.photos],
            rejected=[RejectedInfo.of(member.name, face, root) for face in member.rejected],
            notices=list(notices),
        )


class GroupInfo(BaseModel):
    """A group and who is in it."""

    name: str
    members: list[str]

    @classmethod
    def all_of(cls, members: Sequence[Member]) -> list[Self]:
        """Every group of `members`, by name."""
        groups: dict[str, list[str]] = {}
        for member in members:
            if member.group is not None:
                groups.setdefault(member.group, []).append(member.name)
        return [cls(name=name, members=groups[name]) for name in sorted(groups, key=str.casefold)]


class KeptPhoto(BaseModel):
    """A photo that was kept."""

    file: str
    photo: PhotoInfo
    duplicate: bool = Field(description="The same file was there before; it is stored once.")
    remark: str | None


class RefusedPhoto(BaseModel):
    """A photo that was not kept."""

    file: str
    reason: str


class Enrolment(BaseModel):
    """The member as it is now, and what became of each photo."""

    member: MemberInfo
    kept: list[KeptPhoto]
    refused: list[RefusedPhoto]

    @classmethod
    def of(cls, member: Member, enrolled: Enrolled, root: str, notices: Mapping[str, Sequence[str]]) -> Self:
        """Of a member as it is now."""
        info = MemberInfo.of(member, root, notices.get(member.name, ()))
        return cls(member=info, kept=kept_of(member.name, enrolled, root), refused=refused_of(enrolled))


def kept_of(member: str, enrolled: Enrolled, root: str) -> list[KeptPhoto]:
    """The photos that were kept."""
    return [
        KeptPhoto(
            file=kept.file,
            photo=PhotoInfo.of(member, kept.photo, root),
            duplicate=kept.duplicate,
            remark=kept.photo.remark,
        )
        for kept in enrolled.kept
    ]


def refused_of(enrolled: Enrolled) -> list[RefusedPhoto]:
    """The photos that were not kept."""
    return [RefusedPhoto(file=refused.file, reason=refused.reason) for refused in enrolled.refused]


def member_path(name: str, root: str) -> str:
    """The address of a member below the service's root path."""
    return f"{root}/api/members/{quote(name, safe='')}"
