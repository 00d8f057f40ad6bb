"""Programs of those who maintain irbin, run from a checkout; no part of what is installed."""
