"""A program of its own, `python -m irbin.zookeeper`: runs become entries of the zoo."""
