"""The public JSON object of one frame: SSE data, sidecar line, result.json."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco

from streamer.tracks import LABEL_PERSON, LABEL_TRACK, Box, FrameResult, Track

VERSION = 1


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """COCO run-length encoding `{"size": [h, w], "counts": str}` of an (H, W) bool mask."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_mask(rle: dict[str, Any]) -> np.ndarray:
    """(H, W) bool mask of `encode_mask`'s output."""
    decoded: np.ndarray = coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")})
    return decoded.astype(bool)


def result_json(result: FrameResult, *, sidecar: bool = False) -> dict[str, Any]:
    """The contract's object. About 1 ms a track at 1280x720: call it off the event loop.

    So that a render hides everybody whom the stream hid, it has more members where there is something to say:
    `"between_shots": true` where two shots mix, `"people"`, the mask of people who are no track (style `only`), and in
    a sidecar `"undecided"`, the ids of nameless tracks that may turn out to be a member.
    """
    said = {
        "v": VERSION,
        "frame": result.frame_index,
        "pts": round(result.pts_seconds, 6),
        "size": [result.width, result.height],
        "engine": result.engine,
        "identified": result.identified,
        "tracks": [_track_json(result, track) for track in result.tracks],
    }
    if result.between_shots:
        said["between_shots"] = True
    undecided = [track.id for track in result.tracks if track.undecided]
    if sidecar and undecided:
        said["undecided"] = undecided
    if result.label_map is not None:
        strangers = (result.label_map & np.uint8(LABEL_TRACK | LABEL_PERSON)) == LABEL_PERSON
        if strangers.any():
            said["people"] = encode_mask(strangers)
    return said


def _track_json(result: FrameResult, track: Track) -> dict[str, Any]:
    part = None
    if track.object_prompt is not None:
        part = {"prompt": track.object_prompt, "mask": encode_mask(result.object_mask(track))}
    return {
        "id": track.id,
        "name": track.name,
        "similarity": None if track.similarity is None else round(track.similarity, 4),
        "state": track.state,
        "box": _box_json(track.box_xyxy),
        "face": None if track.face_xyxy is None else _box_json(track.face_xyxy),
        "mask": encode_mask(result.mask(track)),
        "object": part,
    }


def _box_json(box: Box) -> list[float]:
    return [round(float(v), 1) for v in box]
