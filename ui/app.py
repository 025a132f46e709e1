"""Entry of the dashboard: `streamlit run ui/app.py`. STREAMER_API and STREAMER_TOKEN name the service."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path, not the one above it; the package may run from a checkout.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from ui import look  # noqa: E402

# A file of our own: Streamlit fetches emoji and symbols for the tab from another host.
_ICON = str(Path(__file__).parent / "icon.svg")

st.set_page_config(page_title="Streamer", page_icon=_ICON, layout="wide")
look.apply()
# views/, not pages/: Streamlit takes a folder of that name for a navigation of its own, which it shows to whoever opens
# a page's own address before anybody has opened the root's.
st.navigation(
    [
        st.Page("views/live.py", title="Live", icon=":material/videocam:", default=True),
        st.Page("views/members.py", title="Members", icon=":material/group:"),
        st.Page("views/images.py", title="Images", icon=":material/image_search:"),
        st.Page("views/videos.py", title="Videos", icon=":material/movie:"),
        st.Page("views/recordings.py", title="Recordings", icon=":material/video_library:"),
    ],
    position="top",
).run()
