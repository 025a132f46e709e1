"""What the routes reach through `request.app.state.services`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request

from streamer.jobs.runner import Jobs
from streamer.service.settings import Settings
from streamer.service.streams import Streams
from streamer.vision.gallery import Gallery
from streamer.vision.known import PhotoReading
from streamer.vision.member import Member
from streamer.vision.resemblance import notices
from streamer.vision.story import TrackStory
from streamer.vision.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running service. Made by `app.create_app`; alive between its start and its end."""

    settings: Settings
    gallery: Gallery
    vision: Supervisor
    streams: Streams
    recordings: Path
    """Folder of recordings and their sidecars."""
    jobs: Jobs

    async def read_photo(self, encoded: bytes) -> PhotoReading:
        """Faces of an encoded photo, by the vision worker."""
        return await self.vision.read_photo(encoded)

    async def members(self) -> tuple[list[Member], dict[str, list[str]]]:
        """Everybody, and what there is to say about them by name (see `resemblance`), by the model in use."""
        model_id = self.vision.state.model_id
        if model_id is None:
            return await asyncio.to_thread(self.gallery.members), {}
        members, known = await asyncio.to_thread(self.gallery.snapshot, model_id)
        return members, await asyncio.to_thread(notices, members, known)

    async def track_story(self, stream_id: str, track_id: int) -> TrackStory:
        """Why a track of a stream is named as it is. Raises `StreamUnknown`, `TrackUnknown`, `VisionUnavailable`."""
        self.streams.get(stream_id)
        return await self.vision.track_story(stream_id, track_id)

    async def gallery_changed(self) -> None:
        """Give vision the gallery as it is now; running streams follow from their next frame on."""
        model_id = self.vision.state.model_id
        if model_id is not None:
            known = await asyncio.to_thread(self.gallery.known, model_id)
            self.vision.set_known(known)
            self.streams.forget_all_but(frozenset(known.names))


def services_of(request: Request) -> Services:
    """The services of the application that got `request`."""
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]
"""Parameter type of a route that needs the services."""
