"""Without a camera: photos, video files and the Python API, on the engine of the live path, without the service.

A file's way: `clip` reads and decodes, `sight` names and masks, `film` draws, `output` encodes and writes.
"""
