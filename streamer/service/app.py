"""The composition root: makes the parts, wires them, starts and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI

from streamer import __version__
from streamer.egress.recordings import adopt_leftovers, keep_private
from streamer.errors import GalleryUnavailable, VisionUnavailable
from streamer.ingest.demo_cast import demo_members
from streamer.jobs.runner import Jobs
from streamer.service import api, archives, auth, problems
from streamer.service.enrolment import embed_missing, enrol_demo_members
from streamer.service.files import Bodiless
from streamer.service.links import Links
from streamer.service.memory import trim_now_and_then
from streamer.service.services import Services
from streamer.service.settings import Settings, check_binding
from streamer.service.sole import sole_service
from streamer.service.streams import Streams
from streamer.vision.gallery import Gallery
from streamer.vision.supervisor import Supervisor
from streamer.webrtc.peers import Network

log = logging.getLogger(__name__)

GALLERY_POLL_SECONDS = 0.5
"""How often another process's change to the gallery is looked for: it shows in running streams within a second."""


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application. Raises `ConfigError` where it must not listen as configured."""
    check_binding(settings)
    Network.of(settings)  # not only when the first stream needs it
    title = "Identity-aware streamer"
    app = FastAPI(title=title, version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.links = Links()
    api.install(app)
    problems.install(app)
    auth.install(app, settings, app.state.links)
    app.add_middleware(Bodiless)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    folder = settings.data_folder
    recordings = folder / "recordings"
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_service(folder))
        gallery = await asyncio.to_thread(Gallery, folder / "gallery")
        stack.push_async_callback(asyncio.to_thread, gallery.close)
        await asyncio.to_thread(adopt_leftovers, recordings)
        await asyncio.to_thread(keep_private, recordings)
        await asyncio.to_thread(archives.sweep, gallery.folder)
        vision = Supervisor(settings.vision, folder)
        jobs = await asyncio.to_thread(Jobs, settings, folder / "jobs", recordings)
        stack.push_async_callback(asyncio.to_thread, jobs.release)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        keeper = group.create_task(vision.run(), name="vision-supervisor")
        streams = Streams(settings, vision, gallery, recordings, group, before_demo=lambda: _enrol_demo(services))
        services = Services(settings, gallery, vision, streams, recordings, jobs)
        group.create_task(jobs.run(), name="jobs")
        changed = asyncio.Event()
        followers = [
            group.create_task(_follow_gallery(services, changed), name="gallery-follower"),
            group.create_task(_embed_missing(services, changed), name="gallery-embedder"),
            group.create_task(trim_now_and_then(), name="memory-trimmer"),
        ]
        app.state.services = services
        try:
            yield
        finally:
            for follower in followers:
                follower.cancel()
            # Together: both take seconds, and who stops the service waits for ten.
            await asyncio.gather(streams.aclose(), jobs.aclose())
            keeper.cancel()


async def _follow_gallery(services: Services, changed: asyncio.Event) -> None:
    """Push the gallery to vision when vision changes its model, and when any process changed the gallery."""
    model_id: str | None = None
    while True:
        try:
            now = services.vision.state.model_id
            if await asyncio.to_thread(services.gallery.changed) or now != model_id:
                model_id = now
                await services.gallery_changed()
                changed.set()
        except GalleryUnavailable as exc:
            log.warning("gallery: %s", exc)
        await services.vision.wait_changed(GALLERY_POLL_SECONDS)


async def _embed_missing(services: Services, changed: asyncio.Event) -> None:
    """Read photos again that the model in use has not embedded. Apart from `_follow_gallery`: it may take minutes."""
    hopeless: set[str] = set()
    while True:
        await changed.wait()
        changed.clear()
        try:
            model_id = services.vision.state.model_id
            if model_id is not None:
                await embed_missing(services, model_id, hopeless)
        except (GalleryUnavailable, VisionUnavailable) as exc:
            log.warning("gallery: %s", exc)


async def _enrol_demo(services: Services) -> None:
    """Give the people of the demo their names, where nobody is enrolled yet."""
    if services.settings.vision.engine not in ("none", "synthetic"):
        photos = await asyncio.to_thread(demo_members)
        await enrol_demo_members(services, photos)
