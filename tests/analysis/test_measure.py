"""The sample is the same whenever asked, and two networks are compared image by image."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from irbin.analysis.measure import LossMeter, Measured, draw
from irbin.data import open_dataset
from irbin.records.options import DataOptions, Preprocessing
from tests.conftest import IEEE, NoFloat64, tf32


def measured(*losses: float) -> Measured:
    return Measured(torch.tensor(losses).double(), torch.tensor(losses) < 1)


class TestMeasured:
    def test_of_itself_there_is_no_increase(self):
        assert measured(0.5, 2.0).increase(measured(0.5, 2.0)) == (0, 0)

    def test_what_all_images_share_has_no_error(self):
        more, error = measured(1.5, 3.0, 9.0).increase(measured(0.5, 2.0, 8.0))
        assert more == pytest.approx(1)
        assert error == pytest.approx(0)

    def test_the_error_is_of_the_mean_of_differences(self):
        more, error = measured(1.0, 2.0, 3.0).increase(measured(0.0, 0.0, 0.0))
        assert more == pytest.approx(2)
        assert error == pytest.approx(1 / math.sqrt(3))

    def test_one_image_has_no_error_and_infinity_no_increase(self):
        assert math.isnan(measured(1.0).increase(measured(0.5))[1])
        for loss in (math.inf, math.nan):
            assert all(map(math.isnan, measured(loss, 1.0).increase(measured(0.5, 0.5))))
            assert math.isnan(measured(loss, 1.0).loss)

    def test_loss_and_accuracy_are_means(self):
        assert measured(0.5, 2.5).loss == 1.5
        assert measured(0.5, 2.5, 0.1, 3.0).top1 == 50


class TestOnADevice:
    """A GPU's tensors without their numbers."""

    @pytest.fixture
    def seen(self) -> list[tuple[str, ...]]:
        return []

    @pytest.fixture
    def found(self, seen: list[tuple[str, ...]]) -> Measured:
        module = nn.Flatten()
        module.register_forward_hook(lambda *_: seen.append(tf32()))
        with FakeTensorMode(), NoFloat64("cuda"):  # as a device that has none
            images = torch.zeros(2, 1, 2, 2, device="cuda")
            labels = torch.zeros(2, dtype=torch.int64, device="cuda")
            return LossMeter(SimpleNamespace(module=module), None, [(images, labels)], [])(())

    def test_float64_is_the_cpus_alone(self, found: Measured):
        assert (found.losses.dtype, found.losses.device.type) == (torch.float64, "cpu")
        assert found.hits.device.type == "cpu"

    def test_float32_is_not_tf32(self, found: Measured, seen: list[tuple[str, ...]]):
        assert seen == [IEEE]
        assert tf32() != seen[0]


@pytest.mark.parametrize(
    ("n_images", "batch_size", "sizes"),
    [
        (1, 9, [1]),
        (8, 9, [8]),
        (9, 9, [9]),
        (10, 9, [5, 5]),
        (17, 9, [8, 8]),
        (18, 18, [18]),
        (99, 7, [6, 6, 6]),
        (18, 5, [4, 4, 4, 4]),
    ],
)
def test_images_come_in_equal_batches_of_all_classes(
    pictures28: Path, n_images: int, batch_size: int, sizes: list[int]
):
    options = DataOptions(data_dir=str(pictures28), batch_size=batch_size, workers=0)
    dataset = open_dataset(options, "validation", Preprocessing((1, 28, 28), (0.3,), (0.3,)))
    batches, again = (draw(dataset, options, n_images, n_classes=3) for _ in range(2))
    assert [len(labels) for _, labels in batches] == sizes
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, again, strict=True))
    if n_images >= 9:
        assert len({int(label) for _, labels in batches for label in labels}) == 3
