"""WebRTC on top of aiortc. `hooks.py` is the only file that touches aiortc's and aioice's private parts."""
