"""Live read-outs of one stream: plain functions from the API's stream object to HTML.

The charts are plain HTML: a chart library draws itself anew at every change of its data, once a second
here, which flickers and takes the browser more time than the video.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any

Json = dict[str, Any]

STAGES = ("decode", "wait", "identity", "propagate", "overlay", "encode")
"""In the order in which a frame meets them."""
_RECORDING = re.compile(r"(?P<stream>[^_]+)_(?P<member>[^_]+)_(?P<start>\d{8}T\d{6}Z)(?:_part(?P<part>\d+))?(?:_\d+)?")
HISTORY_SECONDS = 120.0
BINS = 60
"""Columns of the history: two seconds each."""


def state_line(info: Json) -> str:
    """Where the source and vision stand: a coloured dot and words each."""
    source, size = info.get("source") or {}, info.get("size")
    parts = [_state(*source_state(source.get("state") or {}))]
    vision = _vision_state(info.get("vision") or {})
    if vision:
        parts.append(_state(*vision))
    facts = [f"{size[0]}×{size[1]}"] if size else []
    facts += [f"engine {info['engine']}"] if info.get("engine") else []
    facts += [str(info["encoder"])] if info.get("encoder") else []
    if facts:
        parts.append(f"<span class='sr-empty'>{escape(' · '.join(facts))}</span>")
    return f"<div class='sr-line'>{''.join(parts)}</div>"


def source_state(state: Json) -> tuple[str, str]:
    """(good|wait|bad, words) of a source's state."""
    phase, reason = str(state.get("phase", "connecting")), state.get("reason")
    because = f": {reason}" if reason else ""
    if phase == "live":
        return "good", "Source live"
    if phase == "reconnecting":
        wait = state.get("retry_in_seconds")
        when = f" in {max(1, round(wait))} s" if wait else ""
        return "bad", f"Source reconnecting{when}{because}"
    if phase in ("ended", "failed"):
        return "bad", f"Source {phase}{because}"
    return "wait", f"Source connecting{because}" if reason else "Source connecting…"


def is_over(info: Json) -> bool:
    """No picture will come any more."""
    return ((info.get("source") or {}).get("state") or {}).get("phase") in ("ended", "failed")


def nobody(info: Json) -> str:
    """What an empty list of people means."""
    if not info.get("size"):
        return "There is no picture yet."
    vision = info.get("vision") or {}
    if vision.get("state", "ready") != "ready" or vision.get("notice"):
        return "Vision does not see this picture."
    return "Nobody was in the last picture." if is_over(info) else "Nobody is in the picture."


def _vision_state(vision: Json) -> tuple[str, str] | None:
    state, notice = vision.get("state", "ready"), vision.get("notice")
    if notice == f"vision {state}":
        notice = None  # the picture's notice for this very state
    elif notice and notice.startswith(f"vision {state}: "):
        notice = notice.removeprefix(f"vision {state}: ")  # what it is doing: "warming up 3/20"
    if state == "ready":
        return ("wait", f"Vision: {notice}") if notice else ("good", "Vision ready")
    if state == "off":
        return ("wait", f"Vision off: {notice}" if notice else "Vision off: the picture passes through")
    return ("wait" if state == "starting" else "bad"), f"Vision {state}" + (f": {notice}" if notice else "…")


def _state(colour: str, words: str) -> str:
    return f"<span class='sr-state'><i class='sr-dot {colour}'></i>{escape(words)}</span>"


def number_strip(info: Json) -> str:
    """Rates, delay, drops and viewers in one row."""
    fps, dropped = info.get("fps") or {}, info.get("dropped") or {}
    total = (info.get("latency_ms") or {}).get("total") or {}
    lost = [f"{name} {count}" for name, count in dropped.items() if count]
    cells = [
        ("Source", _number(fps.get("in")), "fps", ""),
        ("Vision", _number(fps.get("vision")), "fps", ""),
        ("Out", _number(fps.get("out")), "fps", ""),
        ("Delay in the service", _number(total.get("p50"), 0), "ms", f"p95 {_number(total.get('p95'), 0)} ms"),
        ("Frames skipped", str(sum(dropped.values())), "", " · ".join(lost)),
        ("Viewers", str(info.get("viewers", 0)), "", ""),
    ]
    recording = info.get("recording") or {}
    if is_recording(info):
        seconds = float(recording.get("duration_seconds") or 0)
        cells.append(("Recording", clock(seconds), "", file_size(recording.get("bytes") or 0)))
    return f"<div class='sr-strip'>{''.join(_cell(*cell) for cell in cells)}</div>"


def _cell(name: str, value: str, unit: str, more: str) -> str:
    unit = f"<span class='unit'>{escape(unit)}</span>" if unit else ""
    more = f"<div class='more'>{escape(more)}</div>" if more else ""
    return f"<div><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}{unit}</div>{more}</div>"


def person_line(track: Json, shown: str | None) -> str:
    """One person in the picture: the name, and how near the newest face came to it."""
    name, similarity = track.get("name"), track.get("similarity")
    who = escape(str(shown or name)) if name else "unknown"
    if track.get("state") == "lost" and not track.get("face"):
        who += " (out of sight)"
    level = ""
    if similarity is not None:
        share = min(100, max(0, round(float(similarity) * 100)))
        level = f"<span class='sr-bar'><i style='width:{share}%'></i></span>{float(similarity):.2f}"
    css = "sr-person" if name else "sr-person unknown"
    cells = f"<b>{who}</b><span class='sr-level'>{level}</span><span class='id'>track {escape(str(track['id']))}</span>"
    return f"<div class='{css}'>{cells}</div>"


def stage_chart(info: Json) -> str:
    """Median (bar) and 95th percentile (mark) of each stage's time."""
    latency = info.get("latency_ms") or {}
    rows = [
        (stage, float(values["p50"]), float(values["p95"]))
        for stage in STAGES
        if _complete(values := latency.get(stage) or {})
    ]
    if not rows:
        return _untitled("Time by stage")
    full = nice_ceiling(max(p95 for _, _, p95 in rows))
    lines = "".join(_stage_row(stage, p50, p95, full) for stage, p50, p95 in rows)
    legend = "<div class='sr-legend'><span class='sr-p50'></span>p50<span class='sr-p95'></span>p95, ms</div>"
    return f"<div class='sr-title'>Time by stage{legend}</div><div class='sr-stages'>{lines}</div>"


def _stage_row(stage: str, p50: float, p95: float, full: float) -> str:
    bar, mark = (f"{100 * min(1.0, value / full):.1f}%" for value in (p50, p95))
    numbers = f"<b>{p50:.1f}</b> {p95:.1f}"
    track = f"<span class='sr-track'><i style='width:{bar}'></i><u style='left:{mark}'></u></span>"
    return f"<div><span>{escape(stage)}</span>{track}<span class='numbers'>{numbers}</span></div>"


def history_chart(history: Sequence[tuple[float, float, float]]) -> str:
    """The delay from capture to the encoded picture over two minutes; of (seconds ago <= 0, p50 ms, p95 ms)."""
    if not history:
        return _untitled("Delay in the service")
    full = nice_ceiling(max(p95 for _, _, p95 in history))
    bins: list[tuple[float, float] | None] = [None] * BINS
    for ago, p50, p95 in history:
        at = min(BINS - 1, max(0, int(BINS * (1 + ago / HISTORY_SECONDS))))
        before = bins[at] or (0.0, 0.0)
        bins[at] = max(before[0], p50), max(before[1], p95)
    plot = "".join(_column(value, full) for value in bins)
    ticks = f"<div class='ticks'><span>{full:g}</span><span>{full / 2:g}</span><span>0</span></div>"
    legend = "<div class='sr-legend'><span class='sr-p50'></span>p50<span class='sr-p95'></span>p95, ms</div>"
    feet = "<div class='feet'><span>2 min ago</span><span>1 min</span><span>now</span></div>"
    body = f"<div class='sr-history'>{ticks}<div class='plot'>{plot}</div>{feet}</div>"
    return f"<div class='sr-title'>Delay in the service{legend}</div>{body}"


def _column(value: tuple[float, float] | None, full: float) -> str:
    if value is None:
        return "<i></i>"
    p50, p95 = (100 * min(1.0, level / full) for level in value)
    return f"<i><b style='height:{p50:.0f}%'></b><u style='bottom:{p95:.0f}%'></u></i>"


def _complete(values: Json) -> bool:
    return values.get("p50") is not None and values.get("p95") is not None


def _untitled(title: str) -> str:
    return f"<div class='sr-title'>{title}</div><div class='sr-empty'>Waiting for frames.</div>"


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `value` and not below 10: a calm axis."""
    step = 10.0
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def is_recording(info: Json) -> bool:
    """A recording is being written now."""
    recording = info.get("recording") or {}
    return bool(recording) and not recording.get("ended_reason")


def clock(seconds: float) -> str:
    """1:05, 1:02:05."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def recording_start(recording_id: str) -> datetime | None:
    """When it began (UTC), as its id says: `<stream>_<member>_20261122T101500Z`, with a part's number behind it."""
    found = _RECORDING.fullmatch(recording_id)
    try:
        return datetime.strptime(found["start"] + "+0000", "%Y%m%dT%H%M%SZ%z") if found else None
    except ValueError:
        return None


def recording_title(recording_id: str) -> str:
    """rei, 23 November 2026, 10:15:00 UTC; an id of another form as it is."""
    found, start = _RECORDING.fullmatch(recording_id), recording_start(recording_id)
    if found is None or start is None:
        return recording_id
    who = "everybody" if found["member"] == "all" else found["member"]
    part = f", part {found['part']}" if found["part"] else ""
    return f"{who}, {start.day} {start:%B %Y, %H:%M:%S} UTC{part}"


def file_size(count: float) -> str:
    """12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def size_limit(count: float) -> str:
    """25 MB, for what is round by design."""
    return file_size(count).replace(".0 ", " ")


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{float(value):.{digits}f}"
