from __future__ import annotations

import json

import pytest

from irbin.kernels import native, rates
from irbin.records.bench import KernelRate


def test_every_implementation_is_listed_and_one_is_active(run) -> None:
    done = run("kernels")
    lines = done.out.splitlines()[2:-1]
    rows = [line.split() for line in lines if not line.startswith(" ")]
    assert [row[0] for row in rows] == [one.name for one in native.implementations()]
    assert [row[0] for row in rows if row[-1] == "active"] == [native.active()]


def test_json_holds_the_same(run) -> None:
    value = json.loads(run("kernels", "--json", "-").out)
    assert [one["name"] for one in value["implementations"]] == [
        one.name for one in native.implementations()
    ]
    assert "rates" not in value


def test_a_wrong_force_is_one_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRBIN_KERNELS", "mmx")
    monkeypatch.setattr(native._State, "active", None)
    done = run("kernels")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("irbin: `IRBIN_KERNELS`: expected one of ")
    assert line.endswith("got `mmx`")


def test_rates_are_measured_for_every_supported_one(run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(name: str, shape: tuple[int, int, int], output: str) -> KernelRate:
        asked.append(name)
        return KernelRate(name, shape, output, 90.0, 100.0)  # type: ignore[arg-type]

    monkeypatch.setattr(rates, "measure", measure)
    done = run("kernels", "--rates")
    supported = [one.name for one in native.implementations() if one.supported][:-1]
    assert list(dict.fromkeys(asked)) == supported
    assert done.out.count("90.0") == 2 * len(asked)


def test_what_compiled_them_is_said(run) -> None:
    assert run("kernels").out.splitlines()[-1] == f"compiled by {native.compiler()}"
    assert json.loads(run("kernels", "--json", "-").out)["compiler"] == native.compiler()


def test_without_the_module_the_user_is_told_why(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_module", None)
    monkeypatch.setattr(native, "_reason", "the reason")
    monkeypatch.setattr(native._State, "active", None)
    done = run("kernels")
    assert done.err == "note: packed networks run on the NumPy reference, slowly: the reason\n"
    assert done.out.splitlines()[-1].startswith("reference")
    assert "active" in done.out.splitlines()[-1]
    assert json.loads(run("kernels", "--json", "-").out)["compiler"] is None
