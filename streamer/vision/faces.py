"""Faces: where they are, and whose they might be. The only file that talks to InsightFace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnxruntime
from insightface.app import FaceAnalysis

from streamer.errors import ModelMissing, VisionUnavailable
from streamer.tracks import Box
from streamer.vision.quality import FaceQuality
from streamer.vision.tracking import overlap

DETECTOR_STEP = 32
"""Pixels: the detector's coarsest stride, of which its input's sides are multiples."""
DETECTOR_SCORE = 0.5
"""SCRFD's usual level; lower ones bring patterns on clothes."""
ALIGNED_SIDE = 112
"""Pixels of the aligned crop that ArcFace-style recognisers take."""
_ALIGNED_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Eyes, nose, mouth corners in the aligned crop (ArcFace's template, insightface/utils/face_align.py)."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face found on one picture."""

    box_xyxy: Box
    score: float
    """0..1, the detector's."""
    keypoints: np.ndarray
    """(5, 2) float32 pixels: eye, eye, nose, mouth corner, mouth corner; left to right in the picture."""

    @property
    def width(self) -> float:
        """Pixels."""
        return self.box_xyxy[2] - self.box_xyxy[0]

    @property
    def height(self) -> float:
        """Pixels."""
        return self.box_xyxy[3] - self.box_xyxy[1]

    @property
    def centre(self) -> tuple[float, float]:
        """x, y in pixels."""
        x0, y0, x1, y1 = self.box_xyxy
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True, slots=True)
class PhotoFace:
    """A face of a photo, with all that enrolment needs."""

    box_xyxy: Box
    score: float
    keypoints: np.ndarray
    """(5, 2) float32 pixels."""
    embedding: np.ndarray
    """(d,) float32, length 1."""
    quality: FaceQuality

    @property
    def sharpness(self) -> float:
        """See `FaceQuality`."""
        return self.quality.sharpness

    @property
    def yaw(self) -> float:
        """See `FaceQuality`."""
        return self.quality.yaw


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: `threads` threads that sleep, not spin, between two runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads of one model take the cores from the next one, from the decoder and from the encoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def providers_of(device: Literal["cpu", "cuda"]) -> list[str]:
    """ONNX Runtime providers for `device`.

    Raises:
        VisionUnavailable: CUDA is asked for and this onnxruntime has none. Never falls back to the CPU in silence.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise VisionUnavailable(
            "vision.device is cuda, but the installed onnxruntime has no CUDA provider: "
            "pip install --force-reinstall --no-deps onnxruntime-gpu, or set vision.device to cpu"
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def check_device(session: onnxruntime.InferenceSession, device: Literal["cpu", "cuda"], what: str) -> None:
    """Raises `VisionUnavailable` where `session` was asked to run on CUDA and does not."""
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise VisionUnavailable(
            f"vision.device is cuda, but {what} was loaded on {', '.join(session.get_providers())}: check the NVIDIA "
            "driver and the CUDA libraries that onnxruntime-gpu needs, or set vision.device to cpu"
        )


class FaceReader:
    """Detector and recogniser of one pack. Not thread-safe; shared by the streams of one worker."""

    def __init__(
        self,
        folder: Path,
        model_id: str,
        *,
        detector_size: tuple[int, int] = (640, 384),
        threads: int = 2,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        """Load the pack in `folder`. `detector_size` is width and height for a 16:9 picture (see `input_size`).

        Raises:
            ModelMissing: the folder holds no detector or no recogniser, or a file that ONNX Runtime cannot load.
            VisionUnavailable: `device` is not to be had.
        """
        self.model_id = model_id
        self.detector_size = detector_size
        try:
            self._app = FaceAnalysis(
                name=str(folder),
                allowed_modules=["detection", "recognition"],
                providers=providers_of(device),
                sess_options=session_options(threads),
                # One session for every size: streams differ in aspect, and a session a size would grow without bound.
                static_shape_sessions=False,
            )
        except (AssertionError, onnxruntime.capi.onnxruntime_pybind11_state.Fail, RuntimeError) as exc:
            raise ModelMissing(f"cannot load the face pack in {folder}: {exc}; run `streamer models pull`") from exc
        if "recognition" not in self._app.models:
            raise ModelMissing(f"the face pack in {folder} holds no recogniser: run `streamer models pull`")
        self._detector = self._app.det_model
        self._recogniser = self._app.models["recognition"]
        self._detector.det_thresh = DETECTOR_SCORE
        check_device(self._detector.session, device, "the face detector")
        check_device(self._recogniser.session, device, "the face recogniser")
        self.providers: tuple[str, ...] = tuple(self._detector.session.get_providers())
        """Execution providers that the sessions really use."""

    def find(self, bgr: np.ndarray) -> list[Face]:
        """Faces on an (H, W, 3) uint8 picture, largest first."""
        height, width = bgr.shape[:2]
        return self._detect(bgr, [input_size(width, height, self.detector_size)])

    def embed(self, bgr: np.ndarray, face: Face | PhotoFace) -> np.ndarray:
        """(d,) float32 embedding of length 1 of `face` on its (H, W, 3) uint8 picture."""
        return self._embed(align(bgr, face.keypoints))

    def quality(self, bgr: np.ndarray, face: Face) -> FaceQuality:
        """How good a probe `face` is."""
        return _quality(align(bgr, face.keypoints), face)

    def compare(self, bgr: np.ndarray, face: Face) -> tuple[np.ndarray, FaceQuality]:
        """`embed` and `quality` in one go."""
        aligned = align(bgr, face.keypoints)
        return self._embed(aligned), _quality(aligned, face)

    def find_in_photo(self, bgr: np.ndarray) -> list[Face]:
        """Faces of a still photo: more scales than `find`, since nothing hurries. Largest first.

        A face that fills the picture is missed at the usual size, small faces of a group shot too.
        """
        height, width = bgr.shape[:2]
        usual, area = input_size(width, height, (640, 640)), width * height
        faces = self._detect(bgr, [input_size(width, height, (160, 160)), usual])
        if area > 4 * usual[0] * usual[1] // 2:
            faces = merge(faces, self._detect(bgr, [input_size(width, height, (1280, 1280))]))
        if not faces:
            # A face cut off by the picture's edges is found again with a border around it.
            border = max(width, height) // 2
            framed = cv2.copyMakeBorder(bgr, border, border, border, border, cv2.BORDER_REPLICATE)
            faces = [_moved(face, -border) for face in self._detect(framed, [(320, 320), (640, 640)])]
        return faces

    def read_photo(self, bgr: np.ndarray) -> list[PhotoFace]:
        """Faces of a still (H, W, 3) uint8 photo with embeddings, largest first."""
        read = []
        for face in self.find_in_photo(bgr):
            embedding, quality = self.compare(bgr, face)
            read.append(PhotoFace(face.box_xyxy, face.score, face.keypoints, embedding, quality))
        return read

    def _detect(self, bgr: np.ndarray, sizes: list[tuple[int, int]]) -> list[Face]:
        found, points = self._detector.detect(bgr, input_size=sizes)
        faces = [
            Face((float(x0), float(y0), float(x1), float(y1)), float(score), np.asarray(five, np.float32))
            for (x0, y0, x1, y1, score), five in zip(found, points, strict=True)
        ]
        return sorted(faces, key=lambda face: -face.height)

    def _embed(self, aligned: np.ndarray) -> np.ndarray:
        feature = np.asarray(self._recogniser.get_feat(aligned), np.float32).ravel()
        unit: np.ndarray = feature / max(float(np.linalg.norm(feature)), 1e-9)
        return unit


def input_size(width: int, height: int, budget: tuple[int, int]) -> tuple[int, int]:
    """Detector input (width, height) for a picture: its aspect, the area of `budget`, no side above its longer one.

    The detector never distorts a picture, it pads; following the aspect keeps the padding from costing time.
    """
    longest = max(budget)
    scale = min(longest / max(width, height), math.sqrt(budget[0] * budget[1] / (width * height)))

    def side(pixels: int) -> int:
        return max(DETECTOR_STEP, min(math.ceil(pixels * scale / DETECTOR_STEP) * DETECTOR_STEP, longest))

    return side(width), side(height)


def align(bgr: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """(112, 112, 3) uint8 crop with the eyes, nose and mouth of `keypoints` where recognisers expect them.

    The least-squares similarity of insightface/utils/face_align.py in closed form (that one goes through scikit-image).
    """
    source = keypoints.astype(np.float64)
    target = _ALIGNED_POINTS.astype(np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    x, y = (source - source_mean).T
    u, v = (target - target_mean).T
    spread = max(float((x * x + y * y).sum()), 1e-9)
    cos, sin = float((x * u + y * v).sum()) / spread, float((x * v - y * u).sum()) / spread
    rotation = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([rotation, target_mean - rotation @ source_mean])
    aligned: np.ndarray = cv2.warpAffine(bgr, matrix, (ALIGNED_SIDE, ALIGNED_SIDE), borderValue=0)
    return aligned


def merge(first: list[Face], second: list[Face]) -> list[Face]:
    """Faces of both lists, those of `second` that lie on one of `first` left out; largest first."""
    kept = list(first)
    kept += [face for face in second if all(overlap(face.box_xyxy, other.box_xyxy) < 0.3 for other in first)]
    return sorted(kept, key=lambda face: -face.height)


def _quality(aligned: np.ndarray, face: Face) -> FaceQuality:
    # The middle of the crop: hair and background are sharp on many a blurred face.
    grey = cv2.cvtColor(aligned[16:104, 20:92], cv2.COLOR_BGR2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    yaw, pitch = _pose(face.keypoints)
    return FaceQuality(face.height, sharpness, yaw, pitch)


def _pose(keypoints: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch from where the nose lies between the eyes, and between the eyes and the mouth."""
    eye_a, eye_b, nose, mouth_a, mouth_b = keypoints.astype(np.float64)
    eyes, mouth = (eye_a + eye_b) / 2, (mouth_a + mouth_b) / 2
    down = mouth - eyes
    length = max(float(np.hypot(*down)), 1e-6)
    down = down / length
    across = np.array([down[1], -down[0]])
    # On a frontal face the eyes are about as far apart as the mouth lies below them; turning shortens that to nothing
    # while the nose wanders off the middle.
    yaw = float(np.dot(nose - (eyes + mouth) / 2, across)) / (0.55 * length)
    pitch = (float(np.dot(nose - eyes, down)) / length - 0.55) / 0.35
    return max(-1.0, min(1.0, yaw)), max(-1.0, min(1.0, pitch))


def _moved(face: Face, by: float) -> Face:
    x0, y0, x1, y1 = face.box_xyxy
    return Face((x0 + by, y0 + by, x1 + by, y1 + by), face.score, face.keypoints + np.float32(by))
