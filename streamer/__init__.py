"""Identity-aware live video segmentation: pick a person by name, watch exactly that person segmented."""

import os

__version__ = "0.1.0"

# onnxruntime would send usage events and keep a device id in the home folder. It reads this when it is imported, which
# happens in other processes too, so it stands here: before any of them, and inherited by all. Set it to 0 to opt in.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
