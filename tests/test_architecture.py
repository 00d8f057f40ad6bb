"""The rules of `docs/architecture.md`, read from the source: who may import whom, and the like."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import irbin

ROOT = Path(irbin.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "bounds": set(),
    "copies": set(),
    "lines": set(),
    "files": {"bounds", "errors"},
    "knob": set(),
    "records": {"errors", "knob"},
    "advice": {"records", "errors"},
    "estimation": {"advice", "records", "errors"},
    "bits": {"errors"},
    "binary": {"errors"},
    "zoo": {"records", "errors"},
    "network": {"copies", "files", "lines", "binary", "bits", "zoo", "records", "errors"},
    "data": {"launch", "records", "errors"},
    "hardware": set(),
    "allocation": set(),
    "launch": {"errors"},
    "processes": {"launch", "errors"},
    "evaluation": {"allocation", "data", "processes", "records", "errors"},
    "training": {
        "knob",
        "hardware",
        "allocation",
        "processes",
        "files",
        "binary",
        "network",
        "records",
        "runs",
        "data",
        "evaluation",
        "errors",
    },
    "program": {"copies", "lines", "bits", "bounds", "binary", "records", "errors"},
    "artifact": {"bounds", "files", "program", "records", "bits", "errors"},
    "kernels": {"bits", "bounds", "records", "errors"},
    "timing": {"hardware", "kernels", "records", "errors"},
    "runtime": {"artifact", "program", "kernels", "bits", "zoo", "records", "errors"},
    "agreement": {"evaluation", "binary", "bits", "program", "runtime", "records", "errors"},
    "analysis": {"training", "network", "data", "evaluation", "estimation", "records", "errors"},
    "peers": {"records", "errors"},
    "runs": {"records", "errors"},
    "logs": {"files", "records", "errors"},
    "report": {"records", "errors"},
    "sources": {
        "files",
        "launch",
        "network",
        "artifact",
        "runtime",
        "zoo",
        "records",
        "errors",
    },
    "conversion": {"network", "training", "program", "records", "errors"},
}
"""The rooms in `FREE` may import anything."""

FORBIDDEN: dict[str, set[str]] = {
    "knob": {"torch", "typer", "pydantic"},
    "records": {"torch", "typer"},
    "advice": {"torch"},
    "estimation": {"torch"},
    "bits": {"torch"},
    "kernels": {"torch"},
    "launch": {"torch"},
    "report": {"torch"},
    "runs": {"torch"},
    "zoo": {"torch", "timm", "torchvision"},
    "binary": {"timm", "torchvision"},
    "program": {"timm", "torchvision"},
    "artifact": {"files", "timm", "torchvision", "irbin.binary", "irbin.program.lower"},
    "runtime": {"timm", "torchvision", "irbin.program.lower"},
}

FREE = {
    "cli",
    "demo",
    "verbs",
    "comparison",
    "benchmarks",
    "train_benchmarks",
    "sensitivity",
    "memory",
    "coverage",
    "zookeeper",
    "__init__",
    "__main__",
}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every dotted module name that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


SOURCES = sorted(p for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    imports = imports_of(path)
    if room not in FREE:
        rooms = {name.split(".")[1] for name in imports if name.startswith("irbin.")}
        assert rooms - {room, "__version__"} <= MAY_IMPORT[room]
    for name in imports:
        for forbidden in FORBIDDEN.get(room, set()):
            assert name != forbidden
            assert not name.startswith(forbidden + ".")


def test_no_room_imports_itself_in_a_circle() -> None:
    edges = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts): imports_of(p) for p in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail, module])
        if module not in done:
            for target in edges[module] & edges.keys():
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_files_hold_one_idea_and_stay_short() -> None:
    too_long = {
        str(p.relative_to(ROOT)): n
        for p in SOURCES
        if (n := len(p.read_text().splitlines())) > 340 and p.name != "records.py"
    }
    assert not too_long


def test_functions_stay_under_sixty_lines() -> None:
    too_long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                n_lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if n_lines > 60:
                    too_long[f"{path.relative_to(ROOT)}:{node.name}"] = n_lines
    assert not too_long


def test_nothing_is_printed_outside_the_command_line() -> None:
    for path in SOURCES:
        if room_of(path) not in {"cli", "__main__"}:
            calls = [
                n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
            ]
            assert not [
                f for f in calls if isinstance(f, ast.Name) and f.id in {"print", "exit"}
            ], path


def test_import_irbin_loads_no_torch() -> None:
    code = "import irbin, sys; dir(irbin); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_all_there() -> None:
    for name in irbin.__all__:
        assert getattr(irbin, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = irbin.nothing  # type: ignore[attr-defined]
