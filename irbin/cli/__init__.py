"""The commands: each parses, calls one plain function of `irbin.verbs`, prints, and exits."""
