"""The routes of members: list, enrol by photos, change, look at thumbnails and rejected faces, remove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from streamer.errors import PhotoRefused
from streamer.service import schemas
from streamer.service.enrolment import Enrolled, GivenPhoto, add_member, add_photos, enrol_demo_members
from streamer.service.member_bodies import (
    Enrolment,
    GroupInfo,
    MemberInfo,
    MemberPatch,
    MemberSpec,
    member_path,
    refused_of,
)
from streamer.service.problems import problem
from streamer.service.services import ServicesDep
from streamer.vision.enrolment import FacePick
from streamer.vision.photos import MAX_PHOTO_BYTES, too_many_bytes

__all__ = ["enrol_demo_members", "router"]

MAX_PHOTOS = 50
"""Photos of one request."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}

router = APIRouter(prefix="/api/members", tags=["members"], responses=PROBLEMS)
groups_router = APIRouter(prefix="/api/groups", tags=["members"], responses=PROBLEMS)


def _form_schema(required: list[str], **fields: dict[str, Any]) -> dict[str, Any]:
    photos = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": f"Image files, at most {MAX_PHOTOS} of {MAX_PHOTO_BYTES // 10**6} MB each.",
    }
    face = {
        "type": "string",
        "description": "Which face of a photo with several: 1, 2, … from the left, or x,y in pixels.",
    }
    properties = {**fields, "photos": photos, "face": face}
    return {"schema": {"type": "object", "properties": properties, "required": required}}


_MEMBER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form_schema(["name"], **MemberSpec.model_json_schema()["properties"]),
            "application/json": {"schema": MemberSpec.model_json_schema()},
        },
    }
}
_PHOTOS_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": _form_schema(["photos"])}}}


@router.get("", response_model=list[MemberInfo])
async def list_members(request: Request, parts: ServicesDep) -> Any:
    """Everybody who is enrolled, by name."""
    members, notices = await parts.members()
    return [MemberInfo.of(member, _root(request), notices.get(member.name, ())) for member in members]


@router.post("", status_code=201, response_model=Enrolment, openapi_extra=_MEMBER_BODY)
async def create_member(request: Request, response: Response, parts: ServicesDep) -> Any:
    """Make a member, with photos (a form) or without (JSON). If none of its photos is kept, it is not made (422)."""
    if _content_type(request) == "application/json":
        spec = _spec(await _json(request))
        enrolled = await add_member(parts, spec.new(), _given([]), source="upload")
    else:
        async with _form(request) as form:
            fields = {key: value for key, value in form.multi_items() if isinstance(value, str) and value}
            pick = _pick(fields.pop("face", None))
            spec = _spec(fields)
            enrolled = await add_member(parts, spec.new(), _given(_uploads(form)), source="upload", pick=pick)
    if enrolled.refused and not enrolled.kept:
        return _none_kept(enrolled)
    enrolment = await _enrolment(parts, spec.name, enrolled, _root(request))
    response.headers["Location"] = member_path(enrolment.member.name, _root(request))
    return enrolment


@router.get("/{name}", response_model=MemberInfo)
async def get_member(name: str, request: Request, parts: ServicesDep) -> Any:
    """One member with its photos. Case does not count in names."""
    return await _member(parts, name, _root(request))


@router.patch("/{name}", response_model=MemberInfo)
async def change_member(name: str, patch: MemberPatch, request: Request, parts: ServicesDep) -> Any:
    """Change the display name, the group or the note of consent. `null` takes away; the name itself stays."""
    await asyncio.to_thread(lambda: parts.gallery.change_member(name, **patch.given()))
    return await _member(parts, name, _root(request))


@router.delete("/{name}", status_code=204)
async def remove_member(name: str, parts: ServicesDep) -> Response:
    """Delete a member with photos, thumbnails and embeddings, from disk and from running streams. For good."""
    await asyncio.to_thread(parts.gallery.remove_member, name)
    await parts.gallery_changed()
    return Response(status_code=204)


@router.post("/{name}/photos", status_code=201, response_model=Enrolment, openapi_extra=_PHOTOS_BODY)
async def create_photos(name: str, request: Request, parts: ServicesDep) -> Any:
    """Add photos to a member. Each is kept or refused by itself; 422 if none was kept."""
    await asyncio.to_thread(parts.gallery.member, name)
    async with _form(request) as form:
        uploads = _uploads(form)
        if not uploads:
            raise PhotoRefused("the request holds no photo; send a form with image files in the field 'photos'")
        pick = _pick(next((value for value in form.getlist("face") if isinstance(value, str) and value), None))
        enrolled = await add_photos(parts, name, _given(uploads), source="upload", pick=pick)
    if not enrolled.kept:
        return _none_kept(enrolled)
    return await _enrolment(parts, name, enrolled, _root(request))


@router.delete("/{name}/photos/{photo_id}", status_code=204)
async def remove_photo(name: str, photo_id: str, parts: ServicesDep) -> Response:
    """Delete one photo with its thumbnail and embeddings."""
    await asyncio.to_thread(parts.gallery.remove_photo, name, photo_id)
    await parts.gallery_changed()
    return Response(status_code=204)


@router.head("/{name}/photos/{photo_id}/thumbnail.jpg", include_in_schema=False)
@router.get(
    "/{name}/photos/{photo_id}/thumbnail.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def get_thumbnail(name: str, photo_id: str, parts: ServicesDep) -> Response:
    """The face of a photo."""
    jpeg = await asyncio.to_thread(parts.gallery.thumbnail, name, photo_id)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.head("/{name}/rejected/{rejected_id}/crop.jpg", include_in_schema=False)
@router.get(
    "/{name}/rejected/{rejected_id}/crop.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def get_rejected(name: str, rejected_id: str, parts: ServicesDep) -> Response:
    """A face that a person said is not the member's."""
    jpeg = await asyncio.to_thread(parts.gallery.rejected_jpeg, name, rejected_id)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.delete("/{name}/rejected/{rejected_id}", status_code=204)
async def remove_rejected(name: str, rejected_id: str, parts: ServicesDep) -> Response:
    """Take a rejection back: it weighs no more."""
    await asyncio.to_thread(parts.gallery.remove_rejected, name, rejected_id)
    await parts.gallery_changed()
    return Response(status_code=204)


@groups_router.get("", response_model=list[GroupInfo])
async def list_groups(parts: ServicesDep) -> Any:
    """Every group, by name, with the names of who is in it. Members of a group are each other's negatives."""
    return GroupInfo.all_of(await asyncio.to_thread(parts.gallery.members))


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as exc:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {exc}") from exc


def _form(request: Request) -> Any:
    """The form of a request, as a context that deletes its temporary files. The size of the body is bounded outside."""
    if _content_type(request) != "multipart/form-data":
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "photos are sent as multipart/form-data, in the field 'photos'"
        )
    return request.form(max_files=MAX_PHOTOS, max_fields=20, max_part_size=16 * 1024)


def _spec(values: Any) -> MemberSpec:
    try:
        return MemberSpec.model_validate(values)
    except ValidationError as exc:
        raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]) from exc


def _pick(text: str | None) -> FacePick | None:
    return FacePick.parse(text) if text else None


def _uploads(form: FormData) -> list[UploadFile]:
    """The files of a form, whatever their field is called. An empty file input of a browser is none."""
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return [file for file in files if file.filename or file.size]


async def _given(uploads: Sequence[UploadFile]) -> AsyncIterator[GivenPhoto]:
    """Photos one by one: however many are sent, one is in memory."""
    for number, upload in enumerate(uploads, start=1):
        file = _file_name(upload.filename or f"photo {number}")
        size = upload.size or 0
        yield GivenPhoto(file, too_many_bytes(size, file) if size > MAX_PHOTO_BYTES else await upload.read())


def _file_name(given: str) -> str:
    """The last part of a path that a client sent, fit to be shown."""
    name = given.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(printable.split())[:100] or "photo"


async def _member(parts: ServicesDep, name: str, root: str) -> MemberInfo:
    member = await asyncio.to_thread(parts.gallery.member, name)
    _, notices = await parts.members()
    return MemberInfo.of(member, root, notices.get(member.name, ()))


async def _enrolment(parts: ServicesDep, name: str, enrolled: Enrolled, root: str) -> Enrolment:
    member = await asyncio.to_thread(parts.gallery.member, name)
    _, notices = await parts.members()
    return Enrolment.of(member, enrolled, root, notices)


def _none_kept(enrolled: Enrolled) -> Response:
    reasons = [refused.reason for refused in enrolled.refused]
    detail = reasons[0] if len(reasons) == 1 else f"none of {len(reasons)} photos was kept: {'; '.join(reasons[:5])}"
    refused = [entry.model_dump() for entry in refused_of(enrolled)]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, kind="photo-refused", refused=refused)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
