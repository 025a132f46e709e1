"""Video files on the SAM 3 engine (random weights): pictures are encoded in batches, and nothing changes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.offline.cast import Cast  # noqa: E402
from streamer.offline.film import Look  # noqa: E402
from streamer.offline.sight import BATCH, Sight  # noqa: E402
from streamer.offline.video import VideoOrder, process  # noqa: E402
from streamer.service.settings import load  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Models  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.known import Known  # noqa: E402
from streamer.vision.loading import Models  # noqa: E402
from tests import media  # noqa: E402
from tests.sam3.test_engine import Calls  # noqa: E402


def test_a_file_is_encoded_in_batches(network: Network, data_dir: Path, tmp_path: Path) -> None:
    settings = load(None, {"data_dir": data_dir, "vision": {"engine": "synthetic"}})
    sight = Sight(settings, Models(settings.vision, None, None, Sam3Models(network)), Known.nobody())
    clip = media.video(tmp_path / "in.mp4", (96, 64), range(0, 10 * 40, 40))
    images = Calls(network.model.detector_model.vision_encoder)
    done = process(VideoOrder(clip, tmp_path / "out.mp4", Cast(("rei",)), Look("none")), sight)
    assert done.frames == 10
    assert images.batches == [BATCH, BATCH, 2]
