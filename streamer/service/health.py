"""Is the process alive, and could a stream be annotated now?"""

from __future__ import annotations

from fastapi import APIRouter, Response

from streamer import __version__
from streamer.service.problems import RETRY_AFTER_SECONDS
from streamer.service.schemas import Health, Readiness
from streamer.service.services import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """200 as long as the process answers. Needs no token."""
    return Health(version=__version__)


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
