"""Identity-aware live video segmentation: pick a person by name, watch exactly that person segmented.

For Python programs: `from streamer import IdentityAwareSegmentation`; see `streamer/offline/api.py`.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.offline.api import IdentityAwareSegmentation

__all__ = ["IdentityAwareSegmentation", "__version__"]

__version__ = "0.1.0"

# onnxruntime would send usage events and keep a device id in the home folder. It reads this when it is imported, which
# happens in other processes too, so it stands here: before any of them, and inherited by all. Set it to 0 to opt in.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for: every process of this program imports this package."""
    if name == "IdentityAwareSegmentation":
        from streamer.offline.api import IdentityAwareSegmentation

        return IdentityAwareSegmentation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
