from __future__ import annotations

import pytest

from irbin.errors import UsageError
from irbin.recipes.recipe import Recipe
from irbin.recipes.request import resolve_recipe

POLICIES = (
    *("rand", "rand-m9", "rand-m9-mstd0.5", "rand-m0-n3-p0.5-inc1", "rand-mmax20-m15-tweights"),
    *("rand-t3a", "rand-t3aw", "augmix", "augmix-m5-w4-d2", "augmix-a0.5-b1-mstd1", "original"),
    *("originalr-mstd0.5", "v0", "v0r", "3a"),
)
NO_POLICIES = (
    *("", "abc", "Rand-m9", "rand-", "rand-m", "rand-m100", "rand-m9-xx1", "rand-n0", "rand-p2x"),
    *("rand-m9 ", "rand-m9\n", "rand-mstdinf", "rand-n1000000000", "augmix-w0", "v1", "v0-m9"),
    *("rand-m\u0669", "original-mstdnan", "rand_m9"),
)


@pytest.mark.parametrize("policy", POLICIES)
def test_timm_reads_every_policy_that_is_let_through(policy: str) -> None:
    from timm.data import create_transform

    assert Recipe(aa=policy).aa == policy
    create_transform((3, 32, 32), is_training=True, auto_augment=policy)


@pytest.mark.parametrize("policy", NO_POLICIES, ids=ascii)
def test_what_is_no_policy_is_told_before_anything_is_done(policy: str) -> None:
    with pytest.raises(UsageError, match="`aa`: expected timm's `rand`, `augmix`"):
        Recipe(aa=policy)
    with pytest.raises(UsageError, match="`aa`: expected timm's `rand`, `augmix`"):
        resolve_recipe(None, {"aa": policy}, converted=True)


def test_a_filter_that_timm_lacks_is_told() -> None:
    with pytest.raises(UsageError, match="`train_interpolation`: Input should be 'random'"):
        resolve_recipe(None, {"train_interpolation": "abc"}, converted=True)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_an_alpha_is_none_or_one_that_can_be_drawn_from(name: str) -> None:
    for alpha in (1e-320, 9e-7):
        with pytest.raises(UsageError, match=f"`{name}`: expected 0, which is off, or 1e-06 and"):
            resolve_recipe(None, {name: alpha}, converted=True)
    for alpha in (0.0, 1e-6, 0.2):
        assert getattr(resolve_recipe(None, {name: alpha}, converted=True), name) == alpha
