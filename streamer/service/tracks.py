"""The routes of a stream's tracks: why one is named as it is, and a person's word on who it is."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamer.service import labelling, schemas
from streamer.service.labelling import Labelled
from streamer.service.member_bodies import KeptPhoto, RefusedPhoto, RejectedInfo, Text, kept_of, refused_of
from streamer.service.problems import problem
from streamer.service.services import ServicesDep
from streamer.vision.member import NewMember
from streamer.vision.story import SeenFace, TrackStory

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}
MAX_TRACK = 2**53
"""What JSON carries exactly."""

router = APIRouter(prefix="/api/streams/{stream_id}", tags=["tracks"], responses=PROBLEMS)

TrackId = Annotated[int, Path(ge=1, le=MAX_TRACK, description="As results and the stream's `tracks` give it.")]


class FaceSeen(BaseModel):
    """One of the best faces seen of a track."""

    image: str = Field(description="data:image/jpeg;base64,… the face with hair and some shoulder around it")
    pts: float = Field(description="Seconds on the source's clock.")
    face: list[float] = Field(description="x0, y0, x1, y1 in pixels of the image")
    score: float = Field(description="The detector's, 0..1.")
    sharpness: float = Field(description="Below about 30 badly blurred, above 100 sharp.")
    yaw: float = Field(description="0 frontal, -1 and 1 the profiles.")

    @classmethod
    def of(cls, seen: SeenFace) -> Self:
        """Of a kept face."""
        face = seen.face
        return cls(
            image=f"data:image/jpeg;base64,{base64.b64encode(seen.jpeg).decode()}",
            pts=round(seen.pts_seconds, 3),
            face=[round(float(value), 1) for value in face.box_xyxy],
            score=round(float(face.score), 3),
            sharpness=round(float(face.sharpness), 1),
            yaw=round(float(face.yaw), 2),
        )


class LookTaken(BaseModel):
    """One comparison of the track's face with the gallery."""

    pts: float
    weight: float = Field(description="0..1: what the face was worth as evidence (size, sharpness, pose).")
    similarity: dict[str, float] = Field(description="Member to cosine, -1..1; the nearest members.")


class DecisionMade(BaseModel):
    """A change of what is said about the track."""

    pts: float
    name: str | None
    reason: str


class Story(BaseModel):
    """Why a track is named as it is. Bounded: 5 faces, 120 looks, 30 decisions; of the 128 tracks seen last."""

    track: int
    name: str | None
    model: str = Field(description="The recognition model that compared.")
    faces: list[FaceSeen] = Field(description="Best first.")
    looks: list[LookTaken] = Field(description="Oldest first.")
    decisions: list[DecisionMade] = Field(description="Oldest first.")

    @classmethod
    def of(cls, story: TrackStory) -> Self:
        """As vision tells it."""
        looks = [
            LookTaken(
                pts=round(look.pts_seconds, 3),
                weight=round(look.weight, 3),
                similarity={name: round(value, 3) for name, value in look.similarity.items()},
            )
            for look in story.looks
        ]
        decisions = [
            DecisionMade(pts=round(made.pts_seconds, 3), name=made.name, reason=made.reason) for made in story.decisions
        ]
        faces = [FaceSeen.of(seen) for seen in story.faces]
        return cls(
            track=story.track_id, name=story.name, model=story.model_id, faces=faces, looks=looks, decisions=decisions
        )


class Label(BaseModel):
    """A person's word on a track: it is `member`, or it is `not` that member."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"track": 7, "member": "rei"},
                {"track": 7, "not": "liz"},
                {"track": 9, "member": "yujin", "create": True},
            ]
        },
    )

    track: int = Field(ge=1, le=MAX_TRACK)
    member: Text | None = Field(None, description="This is that member: the best faces seen become photos of it.")
    not_member: Text | None = Field(None, alias="not", description="This is not: the faces weigh against the name.")
    create: bool = Field(False, description="With `member`: make the member if it is not there.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.member is None) == (self.not_member is None):
            raise ValueError("say either 'member' (who it is) or 'not' (who it is not)")
        if self.create and self.member is None:
            raise ValueError("'create' belongs to 'member'")
        return self


class LabelReport(BaseModel):
    """What was learnt."""

    member: str
    kept: list[KeptPhoto]
    refused: list[RefusedPhoto]
    rejected: list[RejectedInfo] = Field(description="Faces that weigh against the name from now on.")
    withdrawn: int = Field(description="Photos or rejected faces that said the contrary and are deleted.")

    @classmethod
    def of(cls, labelled: Labelled, root: str) -> Self:
        """As labelling tells it."""
        return cls(
            member=labelled.member,
            kept=kept_of(labelled.member, labelled.enrolled, root),
            refused=refused_of(labelled.enrolled),
            rejected=[RejectedInfo.of(labelled.member, face, root) for face in labelled.enrolled.rejected],
            withdrawn=labelled.withdrawn,
        )


@router.get("/tracks/{track_id}", response_model=Story)
async def tell_story(stream_id: str, track_id: TrackId, parts: ServicesDep) -> Any:
    """Why this name? The best faces seen, the similarity to members over time, what was decided and when."""
    return Story.of(await parts.track_story(stream_id, track_id))


@router.post("/label", status_code=201, response_model=LabelReport)
async def label_track(stream_id: str, label: Label, request: Request, parts: ServicesDep) -> Any:
    """Say who a track is, or is not. It counts at once, in every stream, and after a restart."""
    if label.not_member is not None:
        labelled = await labelling.is_not(parts, stream_id, label.track, label.not_member)
    else:
        new = NewMember(label.member or "")
        labelled = await labelling.this_is(parts, stream_id, label.track, new, label.create)
        if not labelled.enrolled.kept:
            refused = refused_of(labelled.enrolled)
            detail = f"no face of track {label.track} can be kept: {refused[0].reason}"
            told = [entry.model_dump() for entry in refused]
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, kind="photo-refused", refused=told)
    return LabelReport.of(labelled, str(request.scope.get("root_path", "")))
