"""Clips with known truth, made from photos: a camera over photos, cuts, dissolves, fades, flashes, blur, occluders.

Photos stand still, so all that a clip asks of a tracker (motion, sight lost and found, another shot) is put there on
purpose, and the truth is known frame by frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

WIDTH, HEIGHT, RATE = 640, 360, 30
Effect = Callable[[np.ndarray, float], np.ndarray]
"""(H, W, 3) uint8 picture and how far the shot is, 0..1, to a picture of the same size."""


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees of a photo: centre and height in shares of the photo's width and height."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Shot:
    """A camera that glides over a photo, and how the next shot takes over."""

    photo: np.ndarray
    members: tuple[str, ...]
    """Who is to be named in it."""
    frames: int
    views: tuple[View, ...]
    """Where the camera goes, at even steps; with one it stands still."""
    effects: tuple[Effect, ...] = ()
    to_next: str = "cut"
    """cut, dissolve, black (fade out and in) or flash."""
    transition: int = 0
    """Frames that the transition takes, half of them on each side of the border between the shots."""

    def picture(self, number: int) -> np.ndarray:
        """(HEIGHT, WIDTH, 3) uint8: frame `number` of the shot; numbers beyond its ends go on gliding."""
        share = number / max(self.frames - 1, 1)
        stations = np.array([(view.x, view.y, view.height) for view in self.views])
        at = share * (len(stations) - 1)
        leg = min(max(int(at), 0), max(len(stations) - 2, 0))
        x, y, height = stations[leg] + (at - leg) * (stations[min(leg + 1, len(stations) - 1)] - stations[leg])
        rows, columns = self.photo.shape[:2]
        scale = HEIGHT / (height * rows)
        photo, shrunk = self.photo, 1.0
        while scale < 0.5:
            photo = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            scale, shrunk = scale * 2, shrunk / 2
        matrix = np.array(
            [[scale, 0, WIDTH / 2 - scale * shrunk * x * columns], [0, scale, HEIGHT / 2 - scale * shrunk * y * rows]]
        )
        seen = cv2.warpAffine(photo, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        # Sensors are never still.
        noise = np.random.default_rng(1000 + number).normal(0, 2, seen.shape[:2]).astype(np.float32)
        seen = np.clip(seen + noise[..., None], 0, 255).astype(np.uint8)
        for effect in self.effects:
            seen = effect(seen, min(max(share, 0.0), 1.0))
        return seen


def render(shots: Sequence[Shot]) -> Iterable[np.ndarray]:
    """(HEIGHT, WIDTH, 3) uint8 pictures of the shots, one after the other."""
    for position, shot in enumerate(shots):
        before = shots[position - 1] if position else None
        after = shots[position + 1] if position + 1 < len(shots) else None
        for number in range(shot.frames):
            picture = shot.picture(number)
            left = shot.frames - number
            if after is not None and left <= shot.transition // 2:
                picture = _mix(shot.to_next, picture, after.picture(-left), 0.5 - (left - 0.5) / shot.transition)
            elif before is not None and number < before.transition // 2:
                old = before.picture(before.frames + number)
                picture = _mix(before.to_next, old, picture, 0.5 + (number + 0.5) / before.transition)
            yield picture


def _mix(kind: str, old: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
    if kind == "dissolve":
        return cv2.addWeighted(old, 1 - share, new, share, 0)
    seen, strength = (old, 1 - 2 * share) if share < 0.5 else (new, 2 * share - 1)
    if kind == "black":
        return cv2.convertScaleAbs(seen, alpha=strength)
    if kind == "flash":
        return cv2.addWeighted(seen, strength, np.full_like(seen, 255), 1 - strength, 0)
    return seen


def truth(shots: Sequence[Shot]) -> list[dict[str, Any]]:
    """The entry of clips.json. A transition's frames belong to no shot: both its ends are in sight, or none is."""
    entries, first = [], 0
    for position, shot in enumerate(shots):
        start = first + (shots[position - 1].transition // 2 if position else 0)
        last = first + shot.frames - 1 - (shot.transition // 2 if position + 1 < len(shots) else 0)
        entries.append({"from": start, "to": last, "members": list(shot.members)})
        first += shot.frames
    return entries


def write_clip(path: Path, pictures: Iterable[np.ndarray], quality: int = 20) -> Path:
    """An H.264 file of `pictures` at `RATE`; `quality` is x264's crf."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": str(quality)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def write_dataset(folder: Path, gallery: dict[str, Sequence[np.ndarray]], clips: dict[str, Sequence[Shot]]) -> Path:
    """A data set for `streamer eval`: photos to enrol by member, shots by the clip's file name."""
    for name, photos in gallery.items():
        (folder / "gallery" / name).mkdir(parents=True)
        for number, photo in enumerate(photos):
            cv2.imwrite(str(folder / "gallery" / name / f"{number}.png"), photo)
    (folder / "clips").mkdir()
    for file, shots in clips.items():
        write_clip(folder / "clips" / file, render(shots))
    said = {file: truth(shots) for file, shots in clips.items()}
    (folder / "clips.json").write_text(json.dumps(said))
    return folder


# Effects --------------------------------------------------------------------------------------------------------------


def blurred(sigma: float) -> Effect:
    """Out of focus, `sigma` pixels."""
    return lambda picture, _: cv2.GaussianBlur(picture, (0, 0), sigma)


def motion_blurred(length: int) -> Effect:
    """Smeared sideways over `length` pixels."""
    kernel = np.full((1, length), 1 / length, np.float32)
    return lambda picture, _: cv2.filter2D(picture, -1, kernel)


def graded(gain: float, offset: float = 0.0) -> Effect:
    """Darker or brighter."""
    return lambda picture, _: cv2.convertScaleAbs(picture, alpha=gain, beta=offset)


def passer(width: float = 0.2, start: float = 0.2, end: float = 0.8, seed: int = 7) -> Effect:
    """A pillar of cloth, `width` of the picture wide, that passes from left to right between shares of the shot."""
    random = np.random.default_rng(seed)
    cloth = cv2.resize(random.uniform(20, 120, (18, 8, 3)).astype(np.float32), (round(width * WIDTH), HEIGHT))

    def effect(picture: np.ndarray, share: float) -> np.ndarray:
        along = (share - start) / (end - start)
        left = round(-cloth.shape[1] + along * (WIDTH + cloth.shape[1]))
        first, last = max(left, 0), min(left + cloth.shape[1], WIDTH)
        if first < last:
            picture = picture.copy()
            picture[:, first:last] = cloth[:, first - left : last - left].astype(np.uint8)
        return picture

    return effect


def face_hidden(x: float, y: float, height: float, start: float, end: float) -> Effect:
    """The head at (`x`, `y`) of the picture, `height` high (all shares), from behind between two shares of the shot."""

    def effect(picture: np.ndarray, share: float) -> np.ndarray:
        if not start <= share <= end:
            return picture
        picture = picture.copy()
        axes = (round(0.42 * height * HEIGHT), round(0.55 * height * HEIGHT))
        cv2.ellipse(picture, (round(x * WIDTH), round(y * HEIGHT)), axes, 0, 0, 360, (30, 40, 55), -1, cv2.LINE_AA)
        return picture

    return effect
