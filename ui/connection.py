"""The service that the pages talk to, and what they show while it does not answer."""

from __future__ import annotations

import re
from typing import NoReturn

import streamlit as st

from ui.client import Service, ServiceError, ServiceUnreachable

RETRY_SECONDS = 2.0
_TROUBLE = "trouble"


@st.cache_resource(show_spinner=False, on_release=Service.close)
def service() -> Service:
    """One client for every session of this dashboard."""
    return Service.from_environment()


def offline(error: ServiceError) -> NoReturn:
    """Says why the page has nothing to show, and shows the page as soon as the service answers."""
    st.error(plain(sentence(error)), icon=":material/cloud_off:")
    if isinstance(error, ServiceUnreachable):
        st.markdown(
            "Start it with `streamer serve`, or set `STREAMER_API` to its address and start the dashboard again."
        )
    st.caption("This page comes back by itself as soon as the service answers.")
    _wait()
    st.stop()


@st.fragment(run_every=RETRY_SECONDS)
def _wait() -> None:
    try:
        service().streams()
    except ServiceError:
        return
    st.rerun()


def remember(error: ServiceError) -> None:
    """Keeps an error of a callback for the run that follows it."""
    st.session_state[_TROUBLE] = sentence(error)


def show_trouble() -> None:
    """Shows the remembered error, once."""
    if line := st.session_state.pop(_TROUBLE, None):
        st.error(plain(line), icon=":material/error:")


def sentence(error: ServiceError) -> str:
    """The error's line with a capital first letter and a full stop."""
    line = str(error) or "The service refused without a reason"
    line = line[0].upper() + line[1:]
    return line if line[-1] in ".!?" else line + "."


def plain(text: str) -> str:
    """Text that Streamlit shows as it is, whatever Markdown would make of it."""
    return re.sub(r"([\\`*_\[\]<>~$#|]|:(?=[A-Za-z]))", r"\\\1", text)
