"""SAM 3 as a mask engine. Modules that import torch are imported only where the engine is built."""
