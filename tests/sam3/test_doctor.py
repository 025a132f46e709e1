"""`streamer doctor` on engine sam3: what the next start would use, and what stands in its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from typer.testing import CliRunner  # noqa: E402

from streamer import cli  # noqa: E402

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(tmp_path: Path, checkpoint: Path) -> Doctor:
    def examine(device: str, **sam3: object) -> tuple[int, dict[str, dict[str, Any]]]:
        config = tmp_path / "config.yaml"
        chosen = {"checkpoint": str(checkpoint), **sam3}
        vision = {"engine": "sam3", "device": device, "sam3": chosen}
        config.write_text(json.dumps({"service": {"port": 0, "dashboard_port": 0}, "vision": vision}))
        arguments = ["doctor", "--json", "--config", str(config), "--data-dir", str(tmp_path / "data")]
        result = CliRunner().invoke(cli.app, arguments)
        return result.exit_code, {check["name"]: check for check in json.loads(result.output)}

    return examine


def test_what_the_next_start_uses(doctor: Doctor, checkpoint: Path) -> None:
    _, checks = doctor("cpu", image_size=224)
    assert (checks["sam3 checkpoint"]["level"], str(checkpoint) in checks["sam3 checkpoint"]["found"]) == ("ok", True)
    assert torch.__version__.partition("+")[0] in checks["sam3 packages"]["found"]
    assert checks["sam3 device"]["found"].startswith("cpu")
    way = checks["sam3 runs as"]["found"]
    for part in ("backend transformers", "float32 (auto)", "224 pixels", "attention", "compile off on the CPU"):
        assert part in way
    assert "chosen by torch" not in way  # the kernel has a name


def test_a_gpu_that_is_not_there(doctor: Doctor) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, checks = doctor("cuda")
    assert status == 1
    assert checks["sam3 device"]["level"] == "fail"
    assert "finds no GPU; nothing runs on the CPU instead" in checks["sam3 device"]["found"]
    assert "sam3 runs as" not in checks


def test_a_checkpoint_that_is_not_there_and_a_backend_that_cannot_work(doctor: Doctor) -> None:
    status, checks = doctor("cpu", checkpoint="sam3", backend="meta")
    assert status == 1
    assert checks["sam3 checkpoint"]["level"] == "fail"
    assert checks["sam3 checkpoint"]["action"] == "streamer models pull sam3 --backend meta"
    assert "sam3 " in checks["sam3 packages"]["found"]
    assert checks["sam3 runs as"]["action"] == "backend meta needs a GPU: set vision.sam3.backend to transformers"
