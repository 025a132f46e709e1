"""Is the process alive, and could a stream be annotated now?"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from streamer import __version__
from streamer.service import auth, members, uploads
from streamer.service.problems import RETRY_AFTER_SECONDS
from streamer.service.schemas import Health, Limits, Readiness
from streamer.service.services import ServicesDep
from streamer.service.settings import Settings
from streamer.vision.photos import MAX_PHOTO_BYTES, MAX_SEGMENTED_BYTES

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Health)
async def healthz(request: Request) -> Health:
    """200 as long as the process answers, with what it takes at most. Needs no token."""
    settings: Settings = request.app.state.settings
    limits = Limits(
        photo_bytes=MAX_PHOTO_BYTES,
        photos=members.MAX_PHOTOS,
        photos_bytes=auth.PHOTO_BODY_BYTES,
        archive_bytes=auth.ARCHIVE_BODY_BYTES,
        job_photo_bytes=MAX_SEGMENTED_BYTES,
        job_files=uploads.MAX_FILES,
        job_bytes=settings.jobs.max_upload_bytes,
    )
    return Health(version=__version__, limits=limits)


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "Not ready."}})
async def readyz(response: Response, parts: ServicesDep) -> Readiness:
    """200 once vision is ready (or off by configuration), else 503 with the reasons. Needs no token."""
    state = parts.vision.state
    ready = state.phase == "ready" or parts.settings.vision.engine == "none"
    why = [text for text in (state.reason, state.doing) if text]
    reasons = [] if ready else [": ".join([f"vision {state.phase}", *why])]
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Readiness(ready=ready, reasons=reasons, engine=parts.settings.vision.engine)
