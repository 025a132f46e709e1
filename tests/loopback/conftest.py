"""What several files of these tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.offline.sight import Sight
from streamer.service.settings import Settings, load
from streamer.vision.known import Known
from streamer.vision.loading import build_models


@pytest.fixture(autouse=True)
def _main_stays_main() -> Iterator[None]:
    """A page under Streamlit's AppTest becomes `__main__`, and worker processes import that anew when they start."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return load(None, {"data_dir": data_dir, "vision": {"engine": "synthetic"}})


@pytest.fixture
def sight(settings: Settings) -> Sight:
    """One track, moving on an ellipse, that is whoever was asked for: the file's way without a model."""
    return Sight(settings, build_models(settings.vision, settings.data_folder), Known.nobody())
