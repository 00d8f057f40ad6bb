"""Records in, text out: rich tables and JSON. Torch-free, and prints nothing."""
