"""A stand-in for `irbin.verbs` that remembers its calls: these tests are about the skin alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache, wraps
from inspect import signature
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import irbin
from irbin.cli.app import main
from irbin.recipes.recipe import Recipe
from irbin.records.analysis import AnalysisOptions
from irbin.records.bench import PackedProgram, TimingOptions, TorchWork
from irbin.records.compression import CompressOptions
from irbin.records.options import Preprocessing, SourceRecord
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions
from irbin.records.results import (
    Agreement,
    CRecord,
    Evaluation,
    ExportRecord,
    LayerAgreement,
    OnnxRecord,
)
from irbin.records.training import EpochRecord, RunRecord, StepRecord
from irbin.runs.listener import Listener

LAYER = LayerRecord(
    "layer1.0.conv1", "conv2d", "Conv2d", (64, 64, 3, 3), 1, False, 1000, (64, 8, 8), (64, 8, 8)
)
PLAN = Plan(PlanOptions(), (Decision(LAYER, True, "binary", 4672),), (3, 32, 32), 0, 0, 0)
SOURCE = SourceRecord("net", "timm:net", 10, Preprocessing(), stated_by={"mean": "a flag"})
AGREEMENT = Agreement(10, 100.0, 0.001, (LayerAgreement("layer1.0.conv1", 100, 0, 0.0),), ())
EPOCH = EpochRecord(0, 1.5, 50.0, 1.25, 60.0, 90.0, 0.1, 0.316, 3.16, 1000.0, 12.0)
STEP = StepRecord(0, 1, 1, 2, 1000.0, 1.5, 50.0, 0.1, 0.316, 3.16, 10.0)
KINDS = {"float": "float", "run": "binary", "run2": "binary", "packed": "packed"}


OPTIONS = (PlanOptions, AnalysisOptions, CompressOptions, TimingOptions, Recipe, Listener)
FIELDS = {field.name for record in OPTIONS for field in fields(record)}
"""What functions take as `**options` or `**overrides`."""


def as_real(module: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a fake refuse to be called as the function of its name in `module` would."""

    def decorate(fake: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(fake)
        def called(*args: Any, **kwargs: Any) -> Any:
            real = signature(real_module(module).__dict__[fake.__name__])
            given = args[1:] if "self" in signature(fake).parameters else args
            bound = real.bind(*given, **kwargs)
            for parameter in real.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    assert set(bound.arguments.get(parameter.name, ())) <= FIELDS
            return fake(*args, **kwargs)

        return called

    return decorate


@cache
def real_module(name: str) -> ModuleType:
    """A module; asked for before anything stands in for it."""
    return importlib.import_module(name)


@pytest.fixture(name="as_real", scope="session")
def as_real_fixture() -> Callable[..., Any]:
    """For fakes of other modules, before they stand in for them."""

    def of(module: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        real_module(module)
        return as_real(module)

    return of


VERBS = "irbin.verbs"


class FakeVerbs(ModuleType):
    """Every verb returns a small record; `calls` holds (verb, positional, keyword)."""

    def __init__(self) -> None:
        super().__init__(VERBS)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.raises: BaseException | None = None
        self.interrupted = False
        self.chatty = False
        self.num_classes = 10
        self.torch_operators: dict[str, int] = {}
        self.why_floats = ""

    def _called(self, verb: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((verb, args, kwargs))
        if self.chatty:
            print("Files already downloaded")  # noqa: T201  # as libraries do
        if self.raises is not None:
            raise self.raises

    @property
    def keywords(self) -> dict[str, Any]:
        return self.calls[-1][2]

    @as_real(VERBS)
    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        self._called("plan", *args, **kwargs)
        return PLAN

    @as_real(VERBS)
    def inspect(self, *args: Any, stage: Any = None, **kwargs: Any) -> tuple[Plan, SourceRecord]:
        self._called("inspect", *args, **kwargs)
        return PLAN, SOURCE

    @as_real(VERBS)
    def inspect_packed(self, *args: Any) -> PackedProgram:
        self._called("inspect_packed", *args)
        text = "%1 = aten.relu(%x)  # float32 (N, 64, 8, 8) [bold]" + " long" * 60
        return PackedProgram(text, TorchWork(self.torch_operators, 9), "avx2", self.why_floats)

    @as_real(VERBS)
    def convert(self, *args: Any, stage: Callable[[str, int, int], None], **kwargs: Any) -> Any:
        stage("calibrating", 5, 10)
        self._called("convert", *args, **kwargs)
        source = replace(SOURCE, num_classes=self.num_classes)
        return SimpleNamespace(plan=PLAN, source=source, module=SimpleNamespace())

    @as_real(VERBS)
    def finetune(
        self, *args: Any, report: Any, on_epoch: Any, say: Any, stage: Any, **kwargs: Any
    ) -> RunRecord:
        stage("decoding images", 1, 2)
        say("training in float32")
        report(STEP)
        on_epoch(EPOCH)
        self._called("finetune", *args, **kwargs)
        return RunRecord(str(args[1]), (EPOCH,), 0, 60.0, self.interrupted)

    @as_real(VERBS)
    def evaluate(self, *args: Any, report: Callable[[int, int], None], **kwargs: Any) -> Evaluation:
        report(10, 10)
        self._called("evaluate", *args, **kwargs)
        spec = str(args[0])
        return Evaluation(
            spec,
            KINDS.get(spec, "float"),
            10,
            60.0,
            90.0,
            1.25,
            {"cat": 50.0},
            99.0,
            36864,
            36864,
            Preprocessing(),
        )  # type: ignore[arg-type]  # a Literal out of a dict

    @as_real(VERBS)
    def compare(self, *args: Any, report: Callable[[int, int], None], **kwargs: Any) -> Agreement:
        self._called("compare", *args, **kwargs)
        return AGREEMENT

    @as_real(VERBS)
    def export_c(self, *args: Any, stage: Any = None, **kwargs: Any) -> CRecord:
        self._called("export_c", *args, **kwargs)
        name = kwargs["c_options"].name or "net"
        return CRecord(str(args[1]), name, f"{name}_run", 83968, 50512, 26)

    @as_real(VERBS)
    def export_onnx(self, *args: Any, stage: Any = None, **kwargs: Any) -> OnnxRecord:
        self._called("export_onnx", *args, **kwargs)
        return OnnxRecord(str(args[1]), 71714, 17, 339, 18)

    @as_real(VERBS)
    def export(self, *args: Any, stage: Any = None, **kwargs: Any) -> ExportRecord:
        self._called("export", *args, **kwargs)
        return ExportRecord(str(args[1]), 4672, 4672, 5000, 147456, 1, 7, kwargs["float_dtype"])


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> FakeVerbs:
    """`irbin.verbs` replaced for one test."""
    real_module(VERBS)
    fake = FakeVerbs()
    monkeypatch.setitem(sys.modules, VERBS, fake)
    monkeypatch.setattr(irbin, "verbs", fake, raising=False)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command line: its exit code, standard output and standard error."""
    monkeypatch.delenv("IRBIN_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def go(*words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["irbin", *words])
        code = main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return go
