"""Small records for the reports to show."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from irbin.records.options import Preprocessing
from irbin.records.plan import Decision, LayerRecord, Plan, PlanOptions
from irbin.records.results import Agreement, Disagreement, Evaluation, LayerAgreement
from irbin.records.training import EpochRecord, StepRecord

Render = Callable[[RenderableType, int], str]


@pytest.fixture
def render() -> Render:
    """Text of a renderable at a width, as a log would hold it."""

    def text(renderable: RenderableType, width: int) -> str:
        out = io.StringIO()
        Console(file=out, width=width, highlight=False).print(renderable)
        return out.getvalue()

    return text


def decision(
    name: str, shape: tuple[int, ...], binary: bool, reason: str, **facts: Any
) -> Decision:
    layer = LayerRecord(
        name=name,
        kind="conv2d" if len(shape) == 4 else "linear",
        type_name="Conv2d",
        weight_shape=shape,
        groups=1,
        has_bias=False,
        n_macs=1_000_000,
        input_shape=(8, 4, 4),
        output_shape=(8, 4, 4),
        activations=("relu",) if binary else (),
        **facts,
    )
    n_weights = 1
    for size in shape:
        n_weights *= size
    packed = n_weights // 8 + shape[0] if binary else 4 * n_weights
    return Decision(layer, binary, reason, packed)


@pytest.fixture
def plan() -> Plan:
    """Four layers, two of them binary, with names and reasons as long as a ResNet's."""
    return Plan(
        options=PlanOptions(),
        decisions=(
            decision("conv1", (64, 3, 7, 7), False, "first layer"),
            decision("layer1.0.conv1", (64, 64, 3, 3), True, "binary"),
            decision("layer2.0.downsample.0", (128, 64, 1, 1), False, "1×1 shortcut"),
            decision("layer4.1.conv2", (512, 512, 3, 3), True, "binarized by rule 'layer4.*'"),
            decision("fc", (1000, 512), False, "last layer"),
        ),
        input_size=(3, 224, 224),
        n_other_params=9600,
        other_bytes=38400,
        n_other_floats=9600,
    )


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    """An evaluation with any field replaced."""

    def make(**fields: Any) -> Evaluation:
        values: dict[str, Any] = {
            "name": "net",
            "kind": "float",
            "n_images": 1000,
            "top1": 93.456,
            "top5": 99.1,
            "loss": 0.3456,
            "per_class": {"cat": 90.0, "dog": 95.5},
            "images_per_second": 1234.5,
            "images_per_second_decoded": 38.0,
            "param_count": 11_689_512,
            "size_bytes": 46_758_048,
            "preprocessing": Preprocessing(),
        }
        return Evaluation(**(values | fields))

    return make


@pytest.fixture
def agreement() -> Agreement:
    """Two layers, three flipped signs in one, one image that differs."""
    return Agreement(
        n_images=1000,
        equal_top1=99.9,
        max_difference=0.0123,
        layers=(LayerAgreement("a.conv", 2000, 3, 1.2e-8), LayerAgreement("b.conv", 1000, 0, 0.0)),
        disagreements=(Disagreement(123, 3, 5, 0.00123, "a.conv flipped 1 sign at |x| = 1.2e-08"),),
    )


@pytest.fixture
def step() -> StepRecord:
    """As long as its figures get."""
    return StepRecord(2, 100, 124, 391, 12345.6, 12.3456, 100.0, 0.000123, 0.001, 1000.0, 359999.0)


@pytest.fixture
def epoch() -> EpochRecord:
    """As long as its figures get."""
    return EpochRecord(
        99, 12.345, 100.0, 12.345, 100.0, 100.0, 1.23e-05, 0.001, 1000.0, 12345.6, 4125.0
    )
