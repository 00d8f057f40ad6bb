"""A float network becomes a binary one."""
