"""What an export wrote: predicted and actual bytes next to each other."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from irbin.messages import counted
from irbin.records.results import CRecord, ExportRecord, OnnxRecord, PushRecord
from irbin.report.fitting import plain_table
from irbin.report.units import byte_size, exact_bytes, ratio


def export_table(record: ExportRecord) -> Table:
    """Bytes predicted, in tensors, in the files that run it, and of the float network."""
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    rows = [
        ("predicted tensors", record.predicted_bytes),
        ("actual tensors", record.tensor_bytes),
        ("its three files", record.total_bytes),
        ("float network", record.float_bytes),
    ]
    if record.tensor_bytes > record.predicted_bytes:  # tables that the network's code computes
        more = record.tensor_bytes - record.predicted_bytes
        rows.insert(2, ("of these unpredicted", more))
    for label, n_bytes in rows:
        table.add_row(label, exact_bytes(n_bytes), byte_size(n_bytes))
    return table


def export_line(record: ExportRecord) -> Text:
    """One sentence: where, what is in it, how much smaller."""
    return Text(
        f"{record.path}: {counted(record.n_binary, 'binary layer')} in "
        f"{counted(record.n_nodes, 'node')}, "
        f"{record.float_dtype} rest, {ratio(record.float_bytes, record.total_bytes)} smaller "
        "than the float network's weights"
    )


def c_table(record: CRecord) -> Table:
    """Bytes of constants, and of memory while it runs."""
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for label, n_bytes in (
        ("constants", record.constant_bytes),
        ("memory while it runs", record.arena_bytes),
    ):
        table.add_row(label, exact_bytes(n_bytes), byte_size(n_bytes))
    return table


def c_line(record: CRecord) -> Text:
    """One sentence: where, under which name, how many calls."""
    left = ""
    if record.by_definition:
        left = (
            "; equal to irbin.load but for rounding, since "
            "torch adds in an order of its own there: "
            f"{', '.join(record.by_definition)}"
        )
    return Text(
        f"{record.path}: {counted(record.n_calls, 'call')} for an image, {record.function} in "
        f"{record.name}.h{left}"
    )


def onnx_line(record: OnnxRecord) -> Text:
    """One sentence: where, how large, what is in it."""
    size = f"{byte_size(record.total_bytes)} ({exact_bytes(record.total_bytes)})"
    return Text(
        f"{record.path}: {size}, "
        f"{counted(record.n_binary, 'weight')} at one bit, {counted(record.n_nodes, 'node')} of "
        f"ONNX's standard operators, opset {record.opset}"
    )


def pushed_table(record: PushRecord) -> Table:
    """Files that go to the hub, and their bytes."""
    table = plain_table()
    table.add_column("file", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for name, n_bytes in record.files.items():
        table.add_row(Text(name), exact_bytes(n_bytes))
    table.add_row("in all", exact_bytes(sum(record.files.values())))
    return table
