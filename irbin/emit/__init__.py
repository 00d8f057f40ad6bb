"""A packed network as C source that any program links."""
