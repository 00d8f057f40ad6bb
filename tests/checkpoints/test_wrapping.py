import re
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor

from irbin.checkpoints.wrapping import AVERAGED, PLAIN, unwrap
from irbin.errors import SourceError


def state(value: float = 0.0) -> dict[str, Tensor]:
    return {"conv.weight": torch.full((2, 2), value), "conv.bias": torch.full((2,), value)}


def taken(content: Any, **how: Any) -> float:
    """Which of the `state(value)` in `content` is taken."""
    tensors, _ = unwrap(content, "`x`", **how)
    assert tensors.keys() == state().keys()
    return float(tensors["conv.bias"][0])


@pytest.mark.parametrize("key", PLAIN)
@pytest.mark.parametrize("inner", ["", "state_dict", "module"])
def test_known_keys_are_undone_one_inside_the_other(key: str, inner: str) -> None:
    content = {key: {inner: state(3)} if inner else state(3), "epoch": 3}
    assert taken(content) == 3
    assert unwrap(content, "`x`")[1] == ()


@pytest.mark.parametrize("key", AVERAGED)
@pytest.mark.parametrize("inner", ["", "module", "state_dict"])
def test_averaged_weights_are_known_by_any_of_their_names(key: str, inner: str) -> None:
    averaged = {inner: state(2), "decay": 0.999} if inner else state(2)
    content = {"model": state(1), key: averaged}
    assert taken(content) == 1
    assert taken(content, use_ema=True) == 2
    assert taken({"checkpoint": content}, use_ema=True) == 2
    assert unwrap(content, "`x`")[1] == unwrap(content, "`x`", use_ema=True)[1] == ()


def test_averaged_weights_alone_are_taken_and_told() -> None:
    tensors, notes = unwrap({"ema": {"module": state(2)}}, "`x`")
    assert tensors.keys() == state().keys()
    assert notes == ("`x`: took the averaged weights under `ema.module`, it has no others",)


def test_an_optimizer_holds_no_weights() -> None:
    moments = {"state": {"conv": {"exp_avg": torch.ones(2, 2)}}}
    content = {"model": state(1), "optimizer": moments, "optimizer_states": moments}
    assert taken(content) == 1
    assert unwrap(content, "`x`")[1] == ()


def test_what_else_holds_weights_is_told() -> None:
    content = {"model": state(1), "discriminator": {"w": torch.ones(2)}, "step": torch.tensor(3)}
    assert taken(content) == 1
    assert unwrap(content, "`x`")[1] == (
        "`x`: took the weights under `model`, left `discriminator` (1 tensor)",
    )


def test_the_innermost_state_dict_is_meant() -> None:
    content = {"model": state(1), "losses": torch.ones(5), "network": {"n_steps": torch.tensor(3)}}
    assert taken(content) == 1
    assert unwrap(content, "`x`")[1] == (
        "`x`: took the weights under `model`, left its top level (1 tensor)",
    )


def test_tensors_at_the_top_beside_unknown_keys() -> None:
    content = {**state(1), "statistics": {"mean": torch.ones(3)}}
    assert unwrap(content, "`x`")[1] == (
        "`x`: took the weights at its top level, left `statistics` (1 tensor)",
    )


def test_several_networks_are_listed_and_one_can_be_chosen() -> None:
    content = {"student": state(1), "teacher": {"backbone": state(2)}, "epoch": 3}
    message = (
        "`x`: expected one state dict, found `student` (2 tensors), `teacher.backbone` "
        "(2 tensors); choose with `state_key='student'`"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        unwrap(content, "`x`")
    assert taken(content, state_key="student") == 1
    assert taken(content, state_key="teacher.backbone") == 2
    chosen, _ = unwrap(content, "`x`", state_key="teacher")
    assert list(chosen) == ["backbone.conv.weight", "backbone.conv.bias"]


def test_two_known_keys_are_two_networks() -> None:
    with pytest.raises(SourceError, match=r"found `model` .2 tensors., `net` .2 tensors."):
        unwrap({"model": state(1), "net": state(2)}, "`x`")


def test_a_state_key_may_be_a_prefix_of_names() -> None:
    flat = {f"module.{part}.{n}": t for part in ("a", "b") for n, t in state(ord(part)).items()}
    for content in (flat, {"state_dict": flat}):
        assert taken(content, state_key="b") == ord("b")
        assert taken(content, state_key="a.") == ord("a")


def test_a_state_key_that_is_not_there() -> None:
    message = (
        "`x`: expected tensors under `state_key='pupil'`, found none; it has `model` (2 tensors)"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        unwrap({"model": state()}, "`x`", state_key="pupil")
    with pytest.raises(SourceError, match="found none; it has no tensors"):
        unwrap({"epoch": 3}, "`x`", state_key="pupil")


def test_a_dictionary_inside_itself_ends() -> None:
    content: dict[str, Any] = {"model": state(1)}
    content["checkpoint"] = content
    with pytest.raises(SourceError, match="expected one state dict"):
        unwrap(content, "`x`")


def test_versions_of_modules_are_kept() -> None:
    versioned: OrderedDict[str, Any] = OrderedDict(state())
    versioned._metadata = {"": {"version": 1}, "conv": {"version": 2}}  # type: ignore[attr-defined]
    tensors, _ = unwrap({"checkpoint": {"model": versioned}}, "`x`")
    assert tensors._metadata["conv"] == {"version": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.module."])
def test_averaged_names_behind_a_wrapper_are_taken_as_the_note_says(wrapper: str) -> None:
    content = {f"{wrapper}ema.{name}": tensor for name, tensor in state(2).items()}
    assert taken(content, use_ema=True) == 2
    content |= {f"{wrapper}{name}": tensor for name, tensor in state(1).items()}
    assert taken(content) == 1
    assert unwrap(content, "`x`")[1][0].endswith("(`use_ema=True` takes them)")
    assert taken(content, use_ema=True) == 2
