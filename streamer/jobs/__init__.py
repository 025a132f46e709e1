"""Photos, video files and re-renders in the background: what a job is, where it is kept, the process that does it."""
