"""The benchmark's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Row = tuple[str, str, str]
"""What, how much, and the goal for two cores."""


def print_table(report: dict[str, Any]) -> None:
    """Print every scenario of `report` that is there."""
    host = report["machine"]
    table = Table(title=f"{host['cpu']}, {host['cores']} cores, Python {host['python']}", title_justify="left")
    table.add_column("measurement")
    table.add_column("value", justify="right")
    table.add_column("goal", style="dim")
    for name, rows in _SECTIONS.items():
        if name in report:
            table.add_section()
            table.add_row(f"[bold]{name}", "", "")
            for what, value, goal in rows(report[name]):
                table.add_row(f"  {what}", value, goal)
    # In a pipe there is no width to keep to, and rich would take 80 columns and break lines.
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


def _none(part: dict[str, Any]) -> Iterator[Row]:
    yield from _flow(part, fps=">= 29", p50="<= 30", p95="<= 40")
    yield "service, CPU s/s, 1 viewer", _number(part["service_cpu_seconds_per_second"]), "<= 0.30"
    if "several" in part:
        several = part["several"]
        count = several["viewers"]
        yield f"fps, {count} viewers", ", ".join(_number(fps, 1) for fps in several["fps_out"]), "30 each"
        yield f"service, CPU s/s, {count} viewers", _number(several["service_cpu_seconds_per_second"]), "<= 0.40"
        yield "a further viewer, CPU ms a frame", _number(part["cpu_ms_per_frame_and_further_viewer"]), "<= 1"
    yield from _memory(part)


def _quality(part: dict[str, Any]) -> Iterator[Row]:
    yield "PSNR-Y of the encode, dB", _number(part["psnr_y_db"], 1), ">= 38"
    yield "frames compared", str(part["frames_compared"]), ""


def _synthetic(part: dict[str, Any]) -> Iterator[Row]:
    yield "engine, ms a frame", _number(1000 * part["delay_seconds"], 0), ""
    yield from _flow(part, fps="", p50="about delay + 40", p95="")
    first, last = (part[f"glass_to_glass_ms_{which}"] for which in ("first", "last"))
    yield "glass to glass p50, first / last 10 s", f"{_number(first['p50'], 0)} / {_number(last['p50'], 0)}", "no rise"
    yield from _memory(part)


def _lite(part: dict[str, Any]) -> Iterator[Row]:
    yield "named", ", ".join(name or "unknown" for name in part["named"]) or "nobody", ""
    vision = part["vision_ms_p50"]
    yield from _flow(part, fps=">= 20", p50=f"<= {vision + 70:.0f} (vision + 70)", p95="")
    yield "vision, ms a frame, p50", _number(vision, 1), ""
    yield "decode + overlay + encode, ms a frame, p50", _number(part["decode_overlay_encode_ms_p50"], 1), ""
    yield "service, CPU ms a frame", _number(part["service_cpu_ms_per_frame"], 1), "<= 14"
    yield "worker, CPU s/s", _number(part["worker_cpu_seconds_per_second"]), ""
    yield from _memory(part)


def _soak(part: dict[str, Any]) -> Iterator[Row]:
    yield "seconds", _number(part["seconds"], 0), ""
    yield "viewers that came and went", str(part["viewers_joined"]), ""
    for process in ("service", "worker"):
        memory = part[f"{process}_rss_mb"]
        yield f"{process}, RSS MB, least / most", f"{_number(memory['least'], 0)} / {_number(memory['most'], 0)}", ""
        yield f"{process}, growth MB a minute", _number(memory["slope_per_minute"], 2), "none"


def _startup(part: dict[str, Any]) -> Iterator[Row]:
    yield "first picture, s", _number(part["first_picture_seconds"], 1), ""
    yield "first annotated picture, s", _number(part["first_annotated_picture_seconds"], 1), "<= 15"
    yield "dashboard, s", _number(part["dashboard_seconds"], 1), ""


def _identity(part: dict[str, Any]) -> Iterator[Row]:
    yield "frames with the right name", f"{part['named_frames']} of {part['frames']}", "all"
    yield "frames between two looks for faces", _number(part["frames_between_looks"], 1), ""
    yield "a look, CPU ms", _number(part["cpu_ms_a_look"], 1), ""
    yield "identity, CPU ms a frame", _number(part["identity_cpu_ms_a_frame"], 1), ""
    yield "identity, share of a frame's time (30 a second)", f"{part['share_of_frame_budget']:.1%}", "<= 15 %"
    yield "all of vision, CPU ms a frame", _number(part["cpu_ms_a_frame"], 1), ""
    yield "identity, share of vision's CPU time", f"{part['share_of_vision_cpu']:.1%}", ""


def _offline(part: dict[str, Any]) -> Iterator[Row]:
    photo = part["photo_1080p"]
    yield "photo 1920x1080, s", _number(photo["seconds_p50"]), "<= 1.0"
    for name, what, goal in (
        ("video_360p", "video 640x360", ">= 1.5 x real time"),
        ("video_720p", "video 1280x720", ""),
        ("video_1080p", "video 1920x1080", ">= 12 fps"),
        ("every_5_1080p", "video 1920x1080, every 5th frame", ""),
        ("render_720p", "render again 1280x720", ">= 3 x real time"),
    ):
        run = part[name]
        rate = f"{run['fps']:.1f} fps, {run['times_real_time']:.2f} x"
        yield what, rate, goal
        yield "  CPU ms a frame, loading included", _number(run["cpu_ms_per_frame"], 1), ""
        yield "  peak MB; frames with the member", f"{run['peak_memory_mb']:.0f}; {run['seen_share']:.0%}", "<= 1200"
    memory = part["memory"]
    peaks = f"{memory['peak_memory_mb']:.0f}, {memory['peak_memory_mb_longer']:.0f}"
    yield f"peak MB of 1080p, and {memory['longer']} times as long", peaks, "<= 1200, flat"


def _engine(part: dict[str, Any]) -> Iterator[Row]:
    facts = ("engine", "weights", "device", "dtype", "image_size")
    yield ", ".join(str(part[fact]) for fact in facts if part.get(fact) is not None), "", ""
    yield "objects followed, found", f"{part['objects']}, {_number(part['objects_found'], 1)}", ""
    yield "peak of the device, GFLOP/s, measured", _number(part["peak_gflops"], 0), ""
    for name, stage in part["stages"].items():
        indent = "  " if name in ("attend", "decode", "remember") else ""
        told = f"{_number(stage['ms_p50'], 1)} ms"
        told += f" ({_number(stage['cpu_ms_p50'], 1)} of CPU)" if part["device"] == "cpu" else ""
        if stage["gflop"]:
            told += f", {_number(stage['gflop'], 1)} GFLOP, {100 * (stage['share_of_peak'] or 0):.0f} % of peak"
        yield f"{indent}{name}", told, ""
    yield "propagate, ms an object", _number(part["propagate_ms_per_object"], 1), ""
    yield "a frame without detect, ms", _number(part["frame_ms_without_detect"], 1), ""
    memory = part["memory_mb"]
    yield "memory MB, first / last frame", f"{_number(memory['first'], 0)} / {_number(memory['last'], 0)}", ""
    yield "memory, growth MB a frame", _number(memory["growth_mb_per_frame"], 3), "0"


def _smoothing(part: dict[str, Any]) -> Iterator[Row]:
    yield f"masks of {part['clip']}, engine {part['engine']}, strength {part['strength']}", str(part["masks"]), ""
    flicker, overlap = part["flicker"], part["overlap_with_raw"]
    yield "flicker, raw / smoothed", f"{_number(flicker['raw'], 4)} / {_number(flicker['smoothed'], 4)}", ""
    yield "flicker, smoothed of raw", _number(flicker["ratio"]), "<= 0.50"
    for name, goal in (("all", ""), ("fastest_quarter", ">= 0.98"), ("fast", ">= 0.98")):
        chosen = overlap[name]
        speed = f"{100 * chosen['from_speed_widths_per_frame']:.1f} % of the width a frame"
        what = f"IoU with raw, moving by {speed} or more ({chosen['masks']} masks)"
        yield what, _number(chosen["mean"], 3), goal
    yield "smoothing, CPU ms a frame", _number(part["cpu_ms_per_frame"]), ""


def _flow(part: dict[str, Any], fps: str, p50: str, p95: str) -> Iterator[Row]:
    delay = part["glass_to_glass_ms"]
    yield "fps out", _number(part["fps_out"][0], 1), fps
    yield "glass to glass p50, ms", _number(delay["p50"], 0), p50
    yield "glass to glass p95, ms", _number(delay["p95"], 0), p95
    yield "dropped (source, vision, encoder, viewers)", " ".join(str(n) for n in part["dropped"].values()), ""
    busy = part["cores_busy"]
    yield "cores busy: all / publisher and viewers", f"{_number(busy['all'])} / {_number(busy['peers'])}", ""


def _memory(part: dict[str, Any]) -> Iterator[Row]:
    memory = part["service_rss_mb"]
    yield "service, RSS MB at the end", _number(memory["end"], 0), "<= 200"
    yield "service, growth MB a minute", _number(memory["slope_per_minute"], 2), ""


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


_SECTIONS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "none": _none,
    "quality": _quality,
    "synthetic": _synthetic,
    "lite": _lite,
    "soak": _soak,
    "smoothing": _smoothing,
    "engine": _engine,
    "startup": _startup,
    "identity": _identity,
    "offline": _offline,
}
