"""Live read-outs of one stream: plain functions from the API's stream object to HTML or a chart."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import altair as alt

Json = dict[str, Any]

STAGES = ("decode", "wait", "identity", "propagate", "overlay", "encode")
"""In the order in which a frame meets them."""
P50_COLOUR = "#3d8bfd"
P95_COLOUR = "#f0883e"


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


def _vision_state(vision: Json) -> tuple[str, str] | None:
    state, notice = vision.get("state", "ready"), vision.get("notice")
    if state == "ready":
        return ("wait", f"Vision: {notice}") if notice else ("good", "Vision ready")
    if state == "off":
        return ("wait", f"Vision off: {notice}" if notice else "Vision off: the picture passes through")
    return ("wait" if state == "starting" else "bad"), f"Vision {state}" + (f": {notice}" if notice else "…")


def _state(colour: str, words: str) -> str:
    return f"<span class='sr-state'><i class='sr-dot {colour}'></i>{escape(words)}</span>"


def number_strip(info: Json) -> str:
    """Rates, delay, drops and viewers in one row."""
    fps, total, dropped = (
        info.get("fps") or {},
        (info.get("latency_ms") or {}).get("total") or {},
        info.get("dropped") or {},
    )
    lost = [f"{name} {count}" for name, count in dropped.items() if count]
    cells = [
        ("Source", _number(fps.get("in")), "fps", ""),
        ("Vision", _number(fps.get("vision")), "fps", ""),
        ("Out", _number(fps.get("out")), "fps", ""),
        ("Delay in the service", _number(total.get("p50"), 0), "ms", f"p95 {_number(total.get('p95'), 0)} ms"),
        ("Frames skipped", str(sum(dropped.values())), "", " · ".join(lost)),
        ("Viewers", str(info.get("viewers", 0)), "", ""),
    ]
    recording = info.get("recording")
    if is_recording(info):
        seconds = float(recording.get("duration_seconds") or 0)
        cells.append(("Recording", clock(seconds), "", file_size(recording.get("bytes") or 0)))
    return f"<div class='sr-strip'>{''.join(_cell(*cell) for cell in cells)}</div>"


def _cell(name: str, value: str, unit: str, more: str) -> str:
    unit = f"<span class='unit'>{escape(unit)}</span>" if unit else ""
    more = f"<div class='more'>{escape(more)}</div>" if more else ""
    return f"<div><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}{unit}</div>{more}</div>"


def people_table(info: Json) -> str:
    """Who is in the picture now, named people first."""
    tracks = sorted(
        info.get("tracks") or [], key=lambda t: (t.get("name") is None, t.get("state") == "lost", t.get("id", 0))
    )
    if not tracks:
        return "<div class='sr-title'>People now</div><div class='sr-empty'>Nobody is in the picture.</div>"
    rows = "".join(_person(track) for track in tracks)
    head = "<tr><th>Name</th><th>Similarity</th><th>Track</th></tr>"
    return f"<div class='sr-title'>People now</div><table class='sr-people'>{head}{rows}</table>"


def _person(track: Json) -> str:
    name, similarity = track.get("name"), track.get("similarity")
    who = escape(str(name)) if name else "unknown"
    if track.get("state") == "lost":
        who += " (out of sight)"
    level = "–"
    if similarity is not None:
        share = min(100, max(0, round(float(similarity) * 100)))
        level = f"<span class='sr-bar'><i style='width:{share}%'></i></span>{float(similarity):.2f}"
    css = "" if name else " class='unknown'"
    return f"<tr{css}><td>{who}</td><td>{level}</td><td>{escape(str(track.get('id', '')))}</td></tr>"


def stage_chart(info: Json) -> alt.Chart | None:
    """Median and 95th percentile of each stage, in milliseconds; None before the first frame."""
    latency = info.get("latency_ms") or {}
    rows = [
        {"stage": stage, "p50": values["p50"], "p95": values["p95"]}
        for stage in STAGES
        if (values := latency.get(stage)) and values.get("p50") is not None and values.get("p95") is not None
    ]
    if not rows:
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("stage:N", sort=list(STAGES), title=None, axis=alt.Axis(labelLimit=120, ticks=False, domain=False))
    )
    axis = alt.X(
        "p50:Q", title="milliseconds: bar p50, mark p95", axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=True)
    )
    tip = ["stage:N", alt.Tooltip("p50:Q", format=".1f"), alt.Tooltip("p95:Q", format=".1f")]
    bars = base.mark_bar(color=P50_COLOUR, height=12, cornerRadiusEnd=3).encode(x=axis, tooltip=tip)
    marks = base.mark_tick(color=P95_COLOUR, thickness=3, height=16).encode(x="p95:Q", tooltip=tip)
    return (bars + marks).properties(height=200)


def history_chart(history: Iterable[tuple[float, float, float]]) -> alt.Chart | None:
    """The delay from capture to the encoded picture over time; of (seconds ago <= 0, p50 ms, p95 ms)."""
    rows = [
        {"t": t, "ms": value, "level": level}
        for t, p50, p95 in history
        for level, value in (("p50", p50), ("p95", p95))
    ]
    if len(rows) < 4:
        return None
    colour = alt.Color(
        "level:N",
        title=None,
        scale=alt.Scale(domain=["p50", "p95"], range=[P50_COLOUR, P95_COLOUR]),
        legend=alt.Legend(orient="top-right", direction="horizontal"),
    )
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=2, interpolate="monotone")
        .encode(
            x=alt.X(
                "t:Q",
                title="seconds ago",
                scale=alt.Scale(domain=[-120, 0]),
                axis=alt.Axis(labelExpr="-datum.value", grid=False),
            ),
            y=alt.Y("ms:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=4)),
            color=colour,
        )
        .properties(height=200)
    )


def is_recording(info: Json) -> bool:
    """A recording is being written now."""
    recording = info.get("recording")
    return bool(recording) and not recording.get("ended_reason")


def clock(seconds: float) -> str:
    """1:05, 1:02:05."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def file_size(count: float) -> str:
    """12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{float(value):.{digits}f}"
