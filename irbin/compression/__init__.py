"""A float network to a packed one in one command, which can be stopped and gone on with."""
