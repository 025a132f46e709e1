"""Fixtures that every kind of test shares. Nothing here touches the user's own folders or the network."""

from __future__ import annotations

import gc
import linecache
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.errors import ModelMissing
from streamer.vision.models import ModelStore

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A slow test runs where it is asked for: by its file on the command line, or by `-m slow`."""
    asked = [argument.partition("::")[0] for argument in config.invocation_params.args if ".py" in argument]
    if "slow" in (config.option.markexpr or ""):
        return
    slow = [
        item
        for item in items
        if item.get_closest_marker("slow") is not None and not any(str(item.path).endswith(name) for name in asked)
    ]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_collection_finish() -> None:
    """What is imported by now stays: a full collection need not walk through it again and again."""
    gc.collect()
    gc.freeze()


# asyncio's debug mode keeps a traceback for every future, and each asks of every file in it whether it has changed.
linecache.checkcache = lambda filename=None: None


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's STREAMER_* variables do not change what a test sees."""
    for name in [name for name in os.environ if name.upper().startswith("STREAMER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data folder of the test's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    """The store with the embedded pack in it, fetched once a checkout. Skips where it cannot be fetched."""
    store = ModelStore(Path(_MODEL_DATA))
    try:
        store.ensure("embedded")
    except ModelMissing as exc:
        pytest.skip(f"the embedded model pack is missing: {exc}")
    return store


@pytest.fixture
def model_data_dir(data_dir: Path, model_store: ModelStore) -> Path:
    """A data folder of the test's own that shares the fetched models."""
    (data_dir / "models").symlink_to(model_store.root, target_is_directory=True)
    return data_dir


# Read at import, before the variables are taken away: `make test` says where it keeps the models.
_MODEL_DATA = os.environ.get("STREAMER_DATA_DIR") or str(REPOSITORY / "var")
