"""Packed networks that come with irbin, each with the record of how it was made."""
