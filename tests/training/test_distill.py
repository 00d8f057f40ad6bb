from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from irbin.training.distill import block_loss, distillation_loss, task_loss

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(5, 7, generator=GENERATOR, dtype=torch.float32)
TEACHER = torch.randn(5, 7, generator=GENERATOR, dtype=torch.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_value_is_the_closed_form(temperature: float) -> None:
    p = (TEACHER.double() / temperature).softmax(1)
    q = (STUDENT.double() / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    got = distillation_loss(STUDENT, TEACHER, temperature)
    assert got.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_is_the_closed_form(temperature: float) -> None:
    student = STUDENT.clone().requires_grad_()
    teacher = TEACHER.clone().requires_grad_()
    distillation_loss(student, teacher, temperature).backward()
    difference = (STUDENT / temperature).softmax(1) - (TEACHER / temperature).softmax(1)
    assert student.grad is not None
    assert torch.allclose(student.grad, temperature / 5 * difference, atol=1e-6)
    assert teacher.grad is None


def test_equal_outputs_up_to_a_constant_cost_nothing() -> None:
    assert distillation_loss(TEACHER + 3, TEACHER, 4.0).item() == pytest.approx(0, abs=1e-5)
    assert distillation_loss(STUDENT, TEACHER, 4.0).item() > 0


def test_half_precision_outputs_are_compared_in_float32() -> None:
    loss = distillation_loss(STUDENT.bfloat16(), TEACHER.bfloat16(), 4.0)
    assert loss.dtype == torch.float32
    assert task_loss(STUDENT.bfloat16(), torch.zeros(5, dtype=torch.long), 0.1).dtype == loss.dtype


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_task_loss_smooths_labels_but_not_mixed_targets(smoothing: float) -> None:
    labels = torch.tensor([0, 1, 2, 3, 6])
    spread = (1 - smoothing) * F.one_hot(labels, 7) + smoothing / 7
    logs = STUDENT.log_softmax(1)
    expected = -(spread * logs).sum(1).mean()
    assert torch.allclose(task_loss(STUDENT, labels, smoothing), expected)
    assert torch.allclose(task_loss(STUDENT, spread, 0.9), expected)


def features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def test_block_loss_is_the_closed_form_summed_over_places() -> None:
    pairs = [
        (features(3, 4, 5, 6), features(3, 4, 5, 6) + 1),
        (features(3, 8, 2, 2), features(3, 8, 2, 3)[..., :2]),
    ]
    expected = 0.0
    for ours, theirs in pairs:
        for left, right in zip(ours.double(), theirs.double(), strict=True):
            q, p = (x.square().mean(0).flatten() for x in (left, right))
            expected += float((q / q.norm() - p / p.norm()).square().sum()) / 3
    got = block_loss([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    assert got.item() == pytest.approx(expected, rel=1e-5)
    assert 0 < expected <= 4


def test_equal_blocks_cost_nothing_and_channels_may_be_permuted_and_scaled() -> None:
    ours, theirs = features(3, 4, 5, 6), features(3, 4, 6, 5).transpose(2, 3)
    assert block_loss([ours], [ours]).item() == 0
    changed = 7 * theirs[:, [2, 0, 3, 1]]
    assert torch.allclose(block_loss([ours], [changed]), block_loss([ours], [theirs]))
    assert block_loss([ours], [-3 * ours]).item() == pytest.approx(0, abs=1e-6)


def test_block_loss_teaches_the_student_alone_in_float32_and_bears_zeros() -> None:
    ours = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    theirs = features(2, 3, 4, 4).requires_grad_()
    loss = block_loss([ours], [theirs])
    loss.backward()
    assert loss.dtype == torch.float32
    assert ours.grad is not None
    assert bool(ours.grad.isfinite().all())
    assert theirs.grad is None
