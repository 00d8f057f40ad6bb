"""What the binary layers of a run look like, and what is wrong with it."""
