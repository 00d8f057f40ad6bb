"""Networks that come with irbin, packed and float, each with the record of how it was made."""
