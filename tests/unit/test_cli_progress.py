"""What a program that started an offline command reads of its progress."""

from __future__ import annotations

import json

import pytest

from streamer.cli_progress import Teller
from streamer.offline.progress import Meter


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_last_report_counts_everything_however_soon_it_follows(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(as_json=True)
    meter = Meter(teller, total=75)
    meter.stage("segmenting")
    for _ in range(75):
        meter.step()
    meter.finish()
    teller.result({"frames": 75})
    *_, last, result = lines(capsys)
    assert (last["done"], last["total"]) == (75, 75)
    assert result == {"result": {"frames": 75}}


def test_reports_are_few_however_many_steps_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(as_json=True)
    for number in range(100):
        teller.stage(f"file {number}")
    meter = Meter(teller)
    meter.stage("segmenting")
    for _ in range(1000):
        meter.step()
    assert len(lines(capsys)) < 10
