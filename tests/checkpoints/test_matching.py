import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from irbin.checkpoints.matching import (
    Head,
    by_name,
    by_order,
    fits_by_order,
    nearest_prefix,
    without_prefix,
)
from irbin.errors import SourceError

HEAD = Head(frozenset({"fc.weight", "fc.bias"}))


def own() -> dict[str, Tensor]:
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(3, 4, 3, bias=False))
    net.add_module("bn", nn.BatchNorm2d(4))
    net.add_module("fc", nn.Linear(4, 5))
    return dict(net.state_dict())


def prefixed(prefix: str, without: str = "nothing") -> dict[str, Tensor]:
    return {prefix + n: t for n, t in own().items() if not n.startswith(without)}


def test_equal_names_match_without_a_word() -> None:
    match = by_name(own(), own(), "`x`")
    assert match is not None
    assert (list(match.tensors), match.how, match.unused) == (list(own()), "", ())


@pytest.mark.slow
@given(st.lists(st.text("abc_0", min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_prefix_is_found(parts: list[str]) -> None:
    prefix = ".".join(parts) + "."
    match = by_name(own(), prefixed(prefix), "`x`")
    assert match is not None
    assert match.tensors.keys() == own().keys()
    assert match.how == f"after removing the prefix `{prefix}`"
    back = by_name(prefixed(prefix), own(), "`x`")
    assert back is not None
    assert back.tensors.keys() == prefixed(prefix).keys()
    assert back.how == f"after adding the prefix `{prefix}`"


def test_counters_never_decide() -> None:
    bare = {n: t for n, t in prefixed("a.").items() if "num_batches" not in n}
    match = by_name(own(), bare, "`x`")
    assert match is not None
    assert match.tensors.keys() == own().keys() - {"bn.num_batches_tracked"}
    match = by_name({n: t for n, t in own().items() if "num_batches" not in n}, own(), "`x`")
    assert match is not None


def test_what_lies_outside_the_prefix_is_left_and_named() -> None:
    match = by_name(own(), {**prefixed("net."), "loss.weight": torch.ones(3)}, "`x`")
    assert match is not None
    assert match.unused == ("loss.weight",)


@pytest.mark.parametrize("prefix", ["", "net."])
def test_what_lies_under_the_prefix_must_be_known(prefix: str) -> None:
    file = {**prefixed(prefix), f"{prefix}conv2.weight": torch.ones(3)}
    assert by_name(own(), file, "`x`") is None


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_missing_tensor_is_no_match(prefix: str) -> None:
    assert by_name(own(), prefixed(prefix, "bn.bias"), "`x`") is None
    assert by_name(own(), prefixed(prefix, "fc"), "`x`") is None


@pytest.mark.parametrize("prefix", ["", "net."])
def test_the_head_may_be_missing_where_it_is_said_to(prefix: str) -> None:
    match = by_name(own(), prefixed(prefix, "fc"), "`x`", HEAD)
    assert match is not None
    assert match.tensors.keys() == own().keys() - HEAD.names


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_head_too_many_is_dropped_and_named(prefix: str) -> None:
    bare = {n: t for n, t in own().items() if not n.startswith("fc")}
    file = {**prefixed(prefix), f"{prefix}fc.2.weight": torch.ones(3)}
    match = by_name(bare, file, "`x`", HEAD)
    assert match is not None
    assert match.tensors.keys() == bare.keys()
    assert match.unused == tuple(f"{prefix}fc.{n}" for n in ("weight", "bias", "2.weight"))


def test_the_head_alone_is_no_network() -> None:
    assert by_name({"fc.weight": torch.ones(2)}, {}, "`x`", HEAD) is None


def test_a_head_covers_its_modules() -> None:
    assert "fc.weight" in HEAD
    assert "fc.2.weight" not in HEAD
    assert HEAD.covers("fc.2.weight")
    assert not HEAD.covers("fc2.weight")
    assert not Head(frozenset({"weight"})).covers("conv.weight")


def test_two_prefixes_that_fit_are_an_error() -> None:
    message = (
        "`x`: the network fits several times, under `student.net.`, `teacher.net.`; "
        "choose with `state_key='student.net'`"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        by_name(own(), prefixed("student.net.") | prefixed("teacher.net."), "`x`")


def test_old_names_are_brought_up_to_date_past_the_prefix() -> None:
    def rename(tensors: object) -> dict[str, Tensor]:
        return {n.replace("linear", "fc"): t for n, t in dict(tensors).items()}  # type: ignore[call-overload]

    file = {n.replace("fc", "linear"): t for n, t in prefixed("net.").items()}
    assert by_name(own(), file, "`x`") is None
    match = by_name(own(), file, "`x`", rename=rename)
    assert match is not None
    assert match.tensors.keys() == own().keys()


def foreign() -> dict[str, Tensor]:
    """The same tensors under names of their own."""
    return {f"l{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(own().items())}


def test_order_matches_whatever_the_names() -> None:
    match = by_order(own(), foreign(), "`x`")
    bare = [n for n in own() if "num_batches" not in n]
    assert list(match.tensors) == bare
    assert match.how == "by their order (`l0.weight` as `conv.weight` …)"
    assert fits_by_order(own(), foreign())


def test_order_without_counters() -> None:
    file = {n: t for n, t in foreign().items() if "num_batches" not in n}
    assert by_order(own(), file, "`x`").tensors.keys() == own().keys() - {"bn.num_batches_tracked"}


def test_order_names_the_first_pair_that_differs() -> None:
    file = foreign()
    file["l6.weight"] = torch.ones(7, 4)
    message = (
        "`x`: `remap=True` matches tensors by their order, and pair 6 of 7 differs: `l6.weight` "
        "(7, 4) for `fc.weight` (5, 4); give the `model=` and `num_classes=` that it was saved "
        "from"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        by_order(own(), file, "`x`")
    assert not fits_by_order(own(), file)
    assert by_order(own(), file, "`x`", {"fc.weight"}).tensors["fc.weight"].shape == (7, 4)


def test_order_needs_as_many() -> None:
    fewer = dict(list(foreign().items())[:-1])
    with pytest.raises(SourceError, match=r"pair 7 of 7 differs: nothing in the file for `fc.bi"):
        by_order(own(), fewer, "`x`")
    more = {**foreign(), "more": torch.ones(2)}
    with pytest.raises(SourceError, match=r"pair 8 of 8 differs: `more` \(2,\) for nothing in"):
        by_order(own(), more, "`x`")


def test_order_never_takes_a_bias_for_a_weight() -> None:
    file = foreign()
    swapped = {n: file[n] for n in ("l0.weight", "l2.bias", "l1.weight", *list(file)[3:])}
    with pytest.raises(SourceError, match=r"pair 2 of 7 differs: `l2.bias` \(4,\) for `bn.weight`"):
        by_order(own(), swapped, "`x`")


def test_nearest_prefix() -> None:
    assert nearest_prefix(own(), prefixed("net.", "bn.bias")) == "net."
    assert nearest_prefix(own(), own() | prefixed("net.")) == ""
    assert nearest_prefix(own(), {"net.fc.bias": torch.ones(2)}) == ""
    assert without_prefix(prefixed("a.") | {"b": torch.ones(1)}, "a.").keys() == own().keys()
