"""Networks with random weights for the SAM 3 tests; without torch or transformers the folder is skipped in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")
pytest.importorskip("transformers", reason="SAM 3 needs transformers: pip install -e '.[sam3]'")

from streamer.vision.engines.base import Picture  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from tests.sam3 import tiny  # noqa: E402

HEIGHT, WIDTH = 120, 160


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Small matrices on many threads spend thirty times as long on waiting for each other.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def options() -> Sam3Options:
    """Random weights are sure of nothing: every query of the detector counts as a detection."""
    return Sam3Options(
        device="cpu", dtype="float32", compile=False, channels_last=False, score_threshold=0.0, part_refresh_frames=8
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of Hugging Face with the tiny SAM 3 in it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.sam3_model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def network(options: Sam3Options) -> Network:
    return Network(tiny.sam3_model(), tiny.tokenizer(), options)


@pytest.fixture
def engine(network: Network) -> Iterator[Sam3Engine]:
    made = Sam3Engine(network, Headroom(network))
    yield made
    made.close()


@pytest.fixture(scope="session")
def picture() -> Callable[[int], Picture]:
    """The n-th picture of a textured scene that moves by two pixels a frame."""
    random = np.random.default_rng(3)
    patches = np.kron(random.integers(0, 160, (20, 40, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    large = patches + random.integers(0, 95, patches.shape, dtype=np.uint8)

    def make(index: int) -> Picture:
        x = (2 * index) % (large.shape[1] - WIDTH)
        return Picture(np.ascontiguousarray(large[40 : 40 + HEIGHT, x : x + WIDTH]), index, index / 30)

    return make
