"""What the pages share in looks: spacing, and the small read-outs that Streamlit has no element for.

Colours come from `currentColor` and the theme, so that light and dark both work.
"""

from __future__ import annotations

import streamlit as st

_CSS = """
<style>
.stMainBlockContainer { padding: 4.5rem clamp(1rem, 4vw, 5rem) 2rem; max-width: 1800px; }
.st-key-style [data-testid="stButtonGroup"] button { padding-inline: .5rem; }
.sr-line { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.25rem; font-size: .875rem; }
.sr-line span.sr-state { display: inline-flex; align-items: center; gap: .5rem; }
.sr-dot { width: .5rem; height: .5rem; border-radius: 50%; background: #8a94a0; flex: none; }
.sr-dot.good { background: #2fbf71; } .sr-dot.wait { background: #f0b429; } .sr-dot.bad { background: #e5484d; }
.sr-strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .75rem 1rem; }
.sr-strip > div { border-left: 2px solid color-mix(in srgb, currentColor 16%, transparent); padding-left: .75rem; }
.sr-strip .name { font-size: .75rem; opacity: .65; }
.sr-strip .value { font-size: 1.375rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.sr-strip .unit { font-size: .8125rem; font-weight: 400; opacity: .65; margin-left: .2rem; }
.sr-strip .more { font-size: .75rem; opacity: .65; }
.sr-people { width: 100%; border-collapse: collapse; font-size: .875rem; margin: 0; }
.sr-people th { text-align: left; font-weight: 500; font-size: .75rem; opacity: .65; padding: .25rem .5rem .25rem 0; }
.sr-people td { overflow-wrap: break-word; vertical-align: top; padding: .375rem .5rem .375rem 0;
  font-variant-numeric: tabular-nums; border-top: 1px solid color-mix(in srgb, currentColor 12%, transparent); }
.sr-people tr > * { border-left: 0 !important; border-right: 0 !important; }
.sr-people .refused .result { color: #e5484d; }
.sr-people .unknown { opacity: .6; }
.sr-level { white-space: nowrap; }
.sr-person { display: grid; grid-template-columns: minmax(6rem, 1fr) 6rem 5rem; gap: .75rem; align-items: center;
  font-size: .875rem; font-variant-numeric: tabular-nums; }
.sr-person b { overflow-wrap: anywhere; font-weight: 600; }
.sr-person.unknown b { font-weight: 400; opacity: .6; }
.sr-person .id { font-size: .75rem; opacity: .6; }
.sr-crops { display: flex; flex-wrap: wrap; gap: .5rem; }
.sr-crops figure { margin: 0; }
.sr-crops img { display: block; height: 7rem; border-radius: .375rem; }
.sr-crops figcaption { font-size: .75rem; opacity: .65; font-variant-numeric: tabular-nums; }
.sr-key { width: .75rem; height: .375rem; border-radius: 2px; }
.sr-similarity { display: grid; grid-template: "ticks plot" 8.5rem ". feet" auto / max-content 1fr; gap: .25rem .5rem;
  font-size: .75rem; margin: .25rem 0 .75rem; }
.sr-similarity .ticks { grid-area: ticks; position: relative; width: 1.25rem; opacity: .65; }
.sr-similarity .ticks span { position: absolute; right: 0; transform: translateY(-50%); }
.sr-similarity .ticks span:nth-child(1) { top: 4%; } .sr-similarity .ticks span:nth-child(2) { top: 42.3%; }
.sr-similarity .ticks span:nth-child(3) { top: 80.7%; }
.sr-similarity .feet { grid-area: feet; display: flex; justify-content: space-between; opacity: .65; }
.sr-similarity .plot { grid-area: plot; min-width: 0; }
.sr-similarity img { display: block; width: 100%; height: 100%; }
.sr-bar { display: inline-block; vertical-align: middle; width: 2.5rem; height: .375rem; margin-right: .5rem;
  border-radius: 1rem; overflow: hidden; background: color-mix(in srgb, currentColor 14%, transparent); }
.sr-bar i { display: block; height: 100%; background: #2fbf71; }
.sr-thumb { aspect-ratio: 16 / 9; border-radius: .5rem; background: color-mix(in srgb, currentColor 8%, transparent); }
.sr-more { font-size: .8125rem; opacity: .65; margin-bottom: .375rem; overflow-wrap: anywhere; }
.sr-more:empty { display: none; }
.sr-progress { height: .375rem; margin-top: .625rem; border-radius: 1rem; overflow: hidden;
  background: color-mix(in srgb, currentColor 12%, transparent); }
.sr-progress i { display: block; height: 100%; background: #3d8bfd; border-radius: 1rem; transition: width .6s; }
.sr-title { font-size: .8125rem; font-weight: 600; margin-bottom: .25rem; overflow-wrap: anywhere; }
.sr-empty { font-size: .875rem; opacity: .65; }
.sr-legend { display: inline-flex; align-items: center; gap: .375rem; margin-left: .75rem; font-weight: 400;
  opacity: .75; }
.sr-p50 { width: .75rem; height: .375rem; border-radius: 2px; background: #3d8bfd; }
.sr-p95 { width: 3px; height: .75rem; margin-left: .5rem; background: #f0883e; }
.sr-stages { display: grid; grid-template-columns: max-content 1fr max-content; gap: .5rem .75rem; align-items: center;
  font-size: .8125rem; margin-top: .5rem; }
.sr-stages > div { display: contents; }
.sr-stages .numbers { font-variant-numeric: tabular-nums; text-align: right; opacity: .75; }
.sr-track { position: relative; height: .625rem; border-radius: 2px;
  background: color-mix(in srgb, currentColor 8%, transparent); }
.sr-track i { position: absolute; inset: 0 auto 0 0; border-radius: 2px; background: #3d8bfd; transition: width .4s; }
.sr-track u { position: absolute; top: -2px; bottom: -2px; width: 3px; margin-left: -1px; background: #f0883e;
  transition: left .4s; }
.sr-history { display: grid; grid-template: "ticks plot" 8.5rem ". feet" auto / max-content 1fr; gap: .25rem .5rem;
  font-size: .75rem; margin-top: .5rem; }
.sr-history .ticks { grid-area: ticks; display: flex; flex-direction: column; justify-content: space-between;
  text-align: right; line-height: 1; opacity: .65; }
.sr-history .feet { grid-area: feet; display: flex; justify-content: space-between; opacity: .65; }
.sr-history .plot { grid-area: plot; display: flex; gap: 1px;
  border: solid color-mix(in srgb, currentColor 16%, transparent); border-width: 1px 0;
  background: linear-gradient(color-mix(in srgb, currentColor 16%, transparent) 1px, transparent 1px) 0 50% / 100% 1px
    no-repeat; }
.sr-history .plot i { position: relative; flex: 1; }
.sr-history .plot b { position: absolute; inset: auto 0 0 0; background: #3d8bfd; border-radius: 1px 1px 0 0; }
.sr-history .plot u { position: absolute; left: 0; right: 0; height: 2px; background: #f0883e; }
</style>
"""


def apply() -> None:
    """Puts the style sheet on the page; once a run, before the page's own elements."""
    st.html(_CSS)
