"""How right the names and how steady the masks are, measured on a data set by the processor of the live path."""
