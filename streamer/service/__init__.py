"""The asyncio service: HTTP, streams, supervision. `app.py` wires the rooms together."""
