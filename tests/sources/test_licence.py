from __future__ import annotations

import pytest

from irbin.records.options import Preprocessing, SourceRecord
from irbin.sources.licence import published


@pytest.mark.parametrize(
    ("architecture", "weights", "known"),
    [
        ("timm:resnet18", "resnet18.a1_in1k", ("apache-2.0", "timm/resnet18.a1_in1k")),
        ("timm:resnet18", "resnet18.tv_in1k", ("bsd-3-clause", "timm/resnet18.tv_in1k")),
        ("timm:resnet18", "resnet18.gone", (None, None)),
        ("timm:resnet18", "/somewhere/model.pth", (None, None)),
        ("timm:resnet18", "hf-hub:owner/name", (None, None)),
        ("timm:resnet18", None, (None, None)),
        ("torchvision:resnet18", "resnet18.IMAGENET1K_V1", (None, None)),
    ],
)
def test_licences_are_those_that_timm_states(architecture, weights, known) -> None:
    record = SourceRecord("s", architecture, 1000, Preprocessing(), weights=weights)
    assert published(record) == known
