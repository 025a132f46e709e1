"""What a loading worker says reaches whoever waits: the picture's notice, the state, and the deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.service.settings import VisionSettings
from streamer.vision import messages as msg
from streamer.vision import supervisor as module
from streamer.vision.supervisor import Supervisor


async def test_what_a_loading_worker_does_is_told_and_keeps_it_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(VisionSettings(engine="synthetic"), tmp_path)
    worker = module.WorkerProcess(VisionSettings(engine="synthetic"), tmp_path, lambda *_: None)
    supervisor._process = worker
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    supervisor._receive(worker, msg.Loading("warming up 3/20"))
    assert supervisor.notice() == "vision starting: warming up 3/20"
    assert supervisor.state.phase == "starting"
    assert supervisor.state.doing == "warming up 3/20"
    assert supervisor._hang_reason(now + module.LOAD_SECONDS - 1) is None
    assert supervisor._hang_reason(now + module.LOAD_SECONDS + 1) is not None
    now += module.LOAD_SECONDS
    supervisor._receive(worker, msg.Loading("warming up 4/20"))
    assert supervisor._hang_reason(now + 1) is None
    supervisor._receive(worker, msg.Ready("synthetic", None, (), 400.0))
    assert supervisor.notice() is None
    assert supervisor.state.doing is None
