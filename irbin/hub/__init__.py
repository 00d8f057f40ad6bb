"""Networks of irbin's on the Hugging Face hub: found, fetched, never run."""
