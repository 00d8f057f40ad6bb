from __future__ import annotations

from irbin.records.results import ExportRecord
from irbin.report.export import export_line, export_table


def test_predicted_and_actual_bytes_stand_under_each_other(render) -> None:
    record = ExportRecord("out", 4_137_216, 4_137_217, 4_190_001, 46_761_000, 16, 83, "float16")
    lines = render(export_table(record), 80).splitlines()
    assert [line.split()[-4] for line in lines[2:4]] == ["4,137,216", "4,137,217"]
    line = export_line(record).plain
    assert line.startswith("out: 16 binary layers in 83 nodes, float16 rest, 11.2× smaller")
