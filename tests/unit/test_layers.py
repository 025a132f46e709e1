"""Who may import whom: the rooms stay apart. `tests/loopback/test_processes.py` looks at what is really loaded."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

import streamer

PACKAGE = Path(streamer.__file__).parent
ROOMS = ("ingest", "vision", "egress")
PLAIN = ("errors", "frames", "tracks", "channels")


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Full names of what a file imports anywhere, `if TYPE_CHECKING` included."""
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_never_import_each_other(room: str) -> None:
    others = [f"streamer.{other}" for other in ROOMS if other != room]
    crossings = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files_of(room)
        for name in imports_of(path)
        if any(name == other or name.startswith(f"{other}.") for other in others)
    }
    assert not crossings


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_nothing_of_the_service_but_its_settings(room: str) -> None:
    upward = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files_of(room)
        for name in imports_of(path)
        if name.startswith(("streamer.service", "streamer.cli"))
        and name != "streamer.service"
        and not name.startswith("streamer.service.settings")
    }
    assert not upward


@pytest.mark.parametrize("module", PLAIN)
def test_plain_modules_need_only_the_standard_library_and_numpy(module: str) -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "__future__"}
    used = {name.split(".")[0] for name in imports_of(PACKAGE / f"{module}.py")}
    foreign = {name for name in used - allowed if name != "streamer"}
    own = {name for name in imports_of(PACKAGE / f"{module}.py") if name.startswith("streamer.")}
    assert not foreign
    assert all(name.split(".")[1] in PLAIN for name in own)


def test_the_dashboard_imports_no_models_and_no_media() -> None:
    ui = PACKAGE.parent / "ui"
    heavy = ("streamer", "torch", "onnxruntime", "insightface", "aiortc", "av", "cv2")
    crossings = {
        f"{path.relative_to(ui)} imports {name}"
        for path in sorted(ui.rglob("*.py"))
        for name in imports_of_ui(path)
        if name.split(".")[0] in heavy
    }
    assert not crossings


def test_streamlit_finds_no_pages_of_its_own_beside_the_dashboard() -> None:
    """It would show them, without the dashboard's navigation, to whoever opens a page's address first."""
    assert (PACKAGE.parent / "ui" / "app.py").exists()
    assert not list((PACKAGE.parent / "ui" / "pages").glob("*.py"))


def imports_of_ui(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
