"""A program of its own, `python -m docs.maintain.zookeeper`: runs become entries of the zoo."""
