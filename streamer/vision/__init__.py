"""From a frame to named masks. Runs in the vision worker; heavy imports stay in the files that adapt them."""
