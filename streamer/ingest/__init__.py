"""Sources: every file here turns one kind of input into I420 frames."""
