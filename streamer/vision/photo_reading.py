"""A photo as enrolment sees it: decoded, its faces found and embedded. Where the models are: worker or command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.vision import photos
from streamer.vision.known import PhotoFace, PhotoReading

if TYPE_CHECKING:
    from streamer.vision.faces import FaceReader


def read_encoded(reader: FaceReader, encoded: bytes) -> PhotoReading:
    """Faces of an encoded photo (any format that `photos.decode` takes), in the pixels of the decoded picture.

    Raises:
        PhotoRefused: it is no picture that can be read.
    """
    bgr = photos.decode(encoded).bgr
    faces = tuple(
        PhotoFace(face.box_xyxy, face.score, face.embedding, face.sharpness, face.yaw)
        for face in reader.read_photo(bgr)
    )
    return PhotoReading(reader.model_id, bgr.shape[1], bgr.shape[0], faces)
