"""Whatever names a network, opened."""
