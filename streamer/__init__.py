"""Identity-aware live video segmentation: pick a person by name, watch exactly that person segmented."""

__version__ = "0.1.0"
