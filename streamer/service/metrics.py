"""/metrics for Prometheus. Everything is computed from the streams at the scrape, so an ended stream leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from streamer import __version__
from streamer.jobs.job import STATES
from streamer.service.services import Services, ServicesDep

router = APIRouter(tags=["health"])

_QUANTILES = {"p50": "0.5", "p95": "0.95"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: ServicesDep) -> Response:
    """Numbers of the service and of every stream. Needs the token where there is one: it says who is streaming."""
    registry = CollectorRegistry()
    ProcessCollector(namespace="streamer", registry=registry)
    registry.register(ServiceCollector(parts, await parts.jobs.counts()))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class ServiceCollector(Collector):
    """The service's metrics at this moment. Labels hold stream ids and kinds only: no URL, no path, no name."""

    def __init__(self, services: Services, jobs: Mapping[str, int]) -> None:
        self._services = services
        self._jobs = jobs

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: a registry would collect to find the names out."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        vision = self._services.vision.state
        engine = self._services.settings.vision.engine
        yield InfoMetricFamily("streamer_build", "The running program.", {"version": __version__, "engine": engine})
        yield GaugeMetricFamily("streamer_vision_ready", "1 while the vision worker is ready.", vision.phase == "ready")
        yield CounterMetricFamily("streamer_vision_restarts", "Times the vision worker ended.", vision.restarts)
        jobs = GaugeMetricFamily("streamer_jobs", "Jobs on the list.", labels=["state"])
        for state in STATES:
            jobs.add_metric([state], self._jobs.get(state, 0))
        yield jobs
        infos = [stream.info() for stream in self._services.streams.all()]
        yield GaugeMetricFamily("streamer_streams", "Live streams.", len(infos))
        yield from _stream_families(infos)


def _stream_families(infos: list[dict[str, Any]]) -> Iterator[Metric]:
    live = _gauge("streamer_stream_live", "1 while frames come from the source.", "kind")
    fps = _gauge("streamer_stream_fps", "Frames a second over the last two seconds.", "point")
    dropped = CounterMetricFamily("streamer_stream_dropped_frames", "Frames left out.", labels=["stream", "queue"])
    stages = _gauge("streamer_stream_stage_seconds", "Time of a stage over the last 300 frames.", "stage", "quantile")
    viewers = _gauge("streamer_stream_viewers", "Connected viewers.")
    tracks = _gauge("streamer_stream_tracks", "People followed on the newest frame.")
    recording = _gauge("streamer_stream_recording", "1 while the stream is recorded.")
    for info in infos:
        stream = str(info["id"])
        source = info["source"]
        live.add_metric([stream, str(source["kind"])], float(source["state"]["phase"] == "live"))
        for point, value in _numbers(info["fps"]):
            fps.add_metric([stream, point], value)
        for queue, value in _numbers(info["dropped"]):
            dropped.add_metric([stream, queue], value)
        for stage, times in info["latency_ms"].items():
            for name, quantile in _QUANTILES.items():
                stages.add_metric([stream, stage, quantile], times[name] / 1000)
        viewers.add_metric([stream], info["viewers"])
        tracks.add_metric([stream], sum(track["state"] == "tracked" for track in info["tracks"]))
        recording.add_metric([stream], float(_records(info["recording"])))
    yield from (live, fps, dropped, stages, viewers, tracks, recording)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["stream", *labels])


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(key, float(value)) for key, value in values.items()]


def _records(recording: Mapping[str, Any] | None) -> bool:
    return recording is not None and recording.get("ended_reason") is None
