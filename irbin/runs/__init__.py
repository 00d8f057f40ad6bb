"""The run folder. Its tables are read without torch, by `read_summary` and `read_diagnostics`."""

from irbin.runs.tables import read_diagnostics as read_diagnostics
from irbin.runs.tables import read_summary as read_summary
