from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from irbin.data.workers import batches_of, ignore_stops
from irbin.errors import DataError, LostWorkerError, UsageError
from irbin.evaluation.accuracy import Subject, evaluate, timm_result
from irbin.evaluation.modes import exact_float32
from irbin.evaluation.tally import sum_type
from irbin.records.options import Preprocessing
from irbin.records.results import Evaluation
from tests.conftest import IEEE, tf32
from tests.data.test_workers import kill_a_worker

PREPROCESSING = Preprocessing((3, 4, 4), crop_pct=0.9)


class Loader(list[tuple[Tensor, Tensor]]):
    """Batches, and how many images they hold."""

    @property
    def n_images(self) -> int:
        return sum(len(labels) for _, labels in self)


def run(model: object, loader: Iterable[tuple[Tensor, Tensor]], **changes: object) -> Evaluation:
    names = changes.pop("class_names", None)
    subject = Subject("tiny", "float", names, 1_234_567, 99, PREPROCESSING)
    return evaluate(model, loader, subject, **changes)


def logits_as_images(images: Tensor) -> Tensor:
    """The network that hands its input on: batches below hold logits."""
    return images


@pytest.mark.parametrize("n_images", [1, 7, 8, 31, 33, 65])
@pytest.mark.parametrize("n_classes", [1, 2, 5, 6, 10])
def test_metrics_equal_their_definition(n_images: int, n_classes: int) -> None:
    generator = torch.Generator().manual_seed(n_images)
    logits = torch.randn(n_images, n_classes, generator=generator)
    labels = torch.randint(0, n_classes, (n_images,), generator=generator)
    result = run(logits_as_images, list(zip(logits.split(8), labels.split(8), strict=True)))
    ranks = logits.argsort(dim=1, descending=True)
    places = (ranks == labels[:, None]).float().argmax(dim=1)
    assert result.n_images == n_images
    assert result.top1 == pytest.approx(100 * (places == 0).double().mean().item())
    assert result.top5 == pytest.approx(100 * (places < 5).double().mean().item())
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    for index in range(n_classes):
        mine = labels == index
        if not mine.any():
            assert str(index) not in result.per_class
            continue
        assert result.per_class[str(index)] == pytest.approx(
            100 * (places[mine] == 0).double().mean().item()
        )


@pytest.mark.slow
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_batching_changes_nothing(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    logits = torch.randn(sum(sizes), 7, generator=generator)
    labels = torch.randint(0, 7, (sum(sizes),), generator=generator)
    split = run(logits_as_images, list(zip(logits.split(sizes), labels.split(sizes), strict=True)))
    whole = run(logits_as_images, [(logits, labels)])
    assert (split.top1, split.top5, split.per_class) == (whole.top1, whole.top5, whole.per_class)
    assert split.loss == pytest.approx(whole.loss, rel=1e-6)


def test_class_names_are_used() -> None:
    batch = (torch.eye(3), torch.tensor([0, 1, 1]))
    result = run(logits_as_images, [batch], class_names=("cat", "dog", "cow"))
    assert result.per_class == {"cat": 100.0, "dog": 50.0}


def test_modes_come_back_and_nothing_is_learned() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))
    network.train()
    network[0].eval()  # a frozen batch norm
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))]
    assert run(network, batches).loss == run(network, batches).loss  # no dropout
    assert [module.training for module in network] == [False, True, True]
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())


def test_progress_counts_images_up_to_all_of_them() -> None:
    seen: list[tuple[int, int]] = []
    loader = Loader([(torch.eye(3), torch.arange(3)), (torch.eye(3)[:1], torch.arange(1))])
    run(logits_as_images, loader, report=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 4), (4, 4)]


def test_autocast_runs_the_network_and_not_the_loss_in_half_precision() -> None:
    types = []

    def network(x: Tensor) -> Tensor:
        y = F.linear(x, torch.eye(3))
        types.append(y.dtype)
        return y

    batch = (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    assert run(network, [batch], amp_dtype="bfloat16").loss > 0
    assert run(network, [batch], amp_dtype=torch.bfloat16).loss > 0
    assert run(network, [batch]).loss > 0
    assert types == [torch.bfloat16, torch.bfloat16, torch.float32]
    with pytest.raises(UsageError, match="`amp`: expected bfloat16 or float16, got int8"):
        run(network, [batch], amp_dtype="int8")


def test_a_worker_that_ends_while_the_network_computes_is_told_by_the_next_batch() -> None:
    zeros = TensorDataset(torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64))
    loading: DataLoader[Any] = DataLoader(
        zeros,
        4,
        num_workers=1,
        worker_init_fn=ignore_stops,
        persistent_workers=True,
        multiprocessing_context="fork",
    )

    def lose_one(images: Tensor) -> Tensor:
        kill_a_worker(loading)
        return images

    with pytest.raises(LostWorkerError, match="is killed by signal: Killed"):
        run(lose_one, batches_of(loading))


def test_nothing_to_evaluate_and_labels_without_outputs() -> None:
    with pytest.raises(DataError, match="expected images to evaluate on, got none"):
        run(logits_as_images, [])
    with pytest.raises(DataError, match="expected labels below the network's 2 outputs, got 2"):
        run(logits_as_images, [(torch.zeros(1, 2), torch.tensor([2]))])
    with pytest.raises(DataError, match=r"expected a classifier.*got \(1, 2, 4, 4\)"):
        run(logits_as_images, [(torch.zeros(1, 2, 4, 4), torch.tensor([0]))])


def test_result_has_timms_keys_and_units() -> None:
    batch = (torch.eye(10), torch.tensor([*range(9), 0]))
    result = timm_result(run(logits_as_images, [batch]))
    assert list(result)[:9] == [
        "model",
        "top1",
        "top1_err",
        "top5",
        "top5_err",
        "param_count",
        "img_size",
        "crop_pct",
        "interpolation",
    ]
    assert (result["top1"], result["top1_err"], result["top5"]) == (90.0, 10.0, 90.0) or (
        result["top1"],
        result["top1_err"],
    ) == (90.0, 10.0)
    assert (result["param_count"], result["img_size"], result["crop_pct"]) == (1.23, 4, 0.9)
    assert result["interpolation"] == "bicubic"


class TestTf32:
    """The settings are there without a GPU, and so is the promise that they are left as found."""

    @pytest.fixture
    def seen(self) -> list[tuple[str, ...]]:
        return []

    @pytest.fixture
    def network(self, seen):
        def network(images: Tensor) -> Tensor:
            seen.append(tf32())
            return images

        return network

    LOADER = Loader([(torch.eye(3), torch.arange(3))])

    @pytest.mark.parametrize("amp", [None, "off"])
    def test_is_off_while_float32_is_evaluated(self, network, seen, amp: str | None) -> None:
        before = tf32()
        assert before[1] == "tf32"  # torch's default, for convolutions
        run(network, self.LOADER, amp_dtype=amp)
        assert seen == [IEEE]
        assert tf32() == before

    def test_is_left_as_it_is_under_autocast(self, network, seen) -> None:
        before = tf32()
        run(network, self.LOADER, amp_dtype="bfloat16")
        assert seen == [before]

    def test_comes_back_after_an_error(self) -> None:
        before = tf32()
        with pytest.raises(ZeroDivisionError), exact_float32():
            _ = 1 // 0
        assert tf32() == before

    def test_what_a_user_set_comes_back(self) -> None:
        before = tf32()[0]
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        try:
            with exact_float32():
                assert tf32() == IEEE
                assert not torch.backends.cuda.matmul.allow_tf32  # torch's older words agree
            assert tf32()[0] == "tf32"
        finally:
            torch.backends.cuda.matmul.fp32_precision = before

    @pytest.mark.slow
    def test_both_ways_of_setting_it_still_work_afterwards(self) -> None:
        code = (
            "import torch; from irbin.evaluation.modes import exact_float32\n"
            "torch.set_float32_matmul_precision('high'); torch.backends.cudnn.allow_tf32 = True\n"
            "with exact_float32(): pass\n"
            "print(torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)\n"
            "torch.backends.cudnn.allow_tf32 = False\n"
            "with exact_float32(): pass\n"
            "print(torch.backends.cudnn.allow_tf32)\n"
            "torch.set_float32_matmul_precision('medium')\n"
            "matmul = torch.backends.mkldnn.matmul\n"
            "with exact_float32(): print(matmul.fp32_precision)\n"
            "print(torch.get_float32_matmul_precision(), matmul.fp32_precision)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.split() == ["high", "True", "False", "ieee", "medium", "bf16"], (
            done.stderr
        )


class TestApplesGpus:
    def test_sums_are_of_the_largest_type_there_is(self) -> None:
        assert sum_type(torch.device("mps")) == torch.float32
        for kind in ("cpu", "cuda", "xpu"):
            assert sum_type(torch.device(kind)) == torch.float64

    def test_evaluation_computes_nothing_in_float64(self, no_float64) -> None:
        loader = Loader([(torch.eye(3), torch.arange(3)), (torch.eye(3), torch.zeros(3).long())])
        wanted = run(logits_as_images, loader)
        with no_float64:
            found = run(logits_as_images, loader)
        assert (found.top1, found.top5) == (wanted.top1, wanted.top5)
        assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
