"""What vision is to the routes of members, without a model: faces are bright squares, an embedding is a colour."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field

import httpx
import numpy as np
from PIL import Image

from streamer.errors import TrackUnknown, VisionUnavailable
from streamer.vision import photos, resemblance
from streamer.vision.gallery import Gallery
from streamer.vision.known import Known, PhotoFace, PhotoReading
from streamer.vision.member import Member
from streamer.vision.story import TrackStory

MODEL = "squares"


@dataclass
class Squares:
    """Finds bright squares on black; the embedding is the colour. What vision is to the routes, without a model."""

    gallery: Gallery
    pushed: list[Known] = field(default_factory=list)
    read: int = 0
    fails_after: int | None = None
    model_id: str = MODEL
    stories: dict[tuple[str, int], TrackStory] = field(default_factory=dict)

    async def read_photo(self, encoded: bytes) -> PhotoReading:
        if self.fails_after is not None and self.read >= self.fails_after:
            raise VisionUnavailable("the vision worker is restarting; try again in a few seconds")
        self.read += 1
        bgr = photos.decode(encoded).bgr
        lit = bgr.max(axis=2) > 60
        columns = np.flatnonzero(np.diff(np.r_[0, lit.any(axis=0), 0]))
        faces = []
        for x0, x1 in zip(columns[::2], columns[1::2], strict=True):
            rows = np.flatnonzero(lit[:, x0:x1].any(axis=1))
            colour = bgr[rows[0] : rows[-1] + 1, x0:x1].reshape(-1, 3).mean(axis=0)
            embedding = (colour / np.linalg.norm(colour)).astype(np.float32)
            box = (float(x0), float(rows[0]), float(x1), float(rows[-1] + 1))
            faces.append(PhotoFace(box, 0.9, embedding, 100.0, 0.0))
        return PhotoReading(self.model_id, bgr.shape[1], bgr.shape[0], tuple(faces))

    async def members(self) -> tuple[list[Member], dict[str, list[str]]]:
        members, known = await asyncio.to_thread(self.gallery.snapshot, self.model_id)
        return members, resemblance.notices(members, known)

    async def track_story(self, stream_id: str, track_id: int) -> TrackStory:
        if (stream_id, track_id) not in self.stories:
            raise TrackUnknown(f"stream {stream_id} has no track {track_id}")
        return self.stories[stream_id, track_id]

    async def gallery_changed(self) -> None:
        self.pushed.append(await asyncio.to_thread(self.gallery.known, MODEL))


def picture(*colours: str, side: int = 80) -> bytes:
    image = Image.new("RGB", (200 * max(1, len(colours)), 200))
    for number, colour in enumerate(colours):
        image.paste(colour, (200 * number + 40, 40, 200 * number + 40 + side, 40 + side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def parts(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("photos", (name, data, "image/png")) for name, data in files]


def check_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["status"] == status
    for word in words:
        assert word in str(body["detail"])
    return body
