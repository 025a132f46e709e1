"""From a frame and its result to viewers and to disk."""
