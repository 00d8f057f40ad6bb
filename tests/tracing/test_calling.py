"""A network's first call: why it does not take images, and which result is no tensor."""

from __future__ import annotations

import dataclasses
import re
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import irbin
from irbin.errors import SourceError, TraceError
from irbin.records.options import Preprocessing
from irbin.tracing.calling import cause, count_classes
from irbin.tracing.trace import trace

SMALL = Preprocessing(input_size=(3, 8, 8))


class Net(nn.Module):
    def __init__(self, in_channels: int = 3, in_features: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(in_channels, 4, 1), nn.Linear(in_features, 3)

    def run(self, x: Any) -> Tensor:
        return self.head(self.stem(x).mean((2, 3)))

    def forward(self, x: Any) -> Any:
        return self.run(x)


class AnyNumber(Net):
    def forward(self, *args: Tensor) -> Tensor:  # type: ignore[override]
        return self.run(args[0])


class Optional(Net):
    def forward(
        self, x: Tensor, scale: float = 1.0, *more: Any, other: int = 0, **kwargs: Any
    ) -> Tensor:  # type: ignore[override]
        return self.run(x) * scale


def refusal(net: nn.Module, seen: Preprocessing = SMALL) -> str:
    net.train()
    with pytest.raises(SourceError) as caught:
        count_classes(net, seen, "Net")
    assert net.training
    return str(caught.value)


@pytest.mark.parametrize("net", [Net(), AnyNumber(), Optional()], ids=lambda n: type(n).__name__)
def test_whatever_takes_images_alone_is_called(net: nn.Module) -> None:
    assert count_classes(net, SMALL, "Net") == 3


class Named(Net):
    def forward(self, **images: Tensor) -> Tensor:  # type: ignore[override]
        return self.run(images["x"])


class KeywordOnly(Net):
    def forward(self, *, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.run(x)


class Nothing(Net):
    def forward(self) -> int:  # type: ignore[override]
        return 1


@pytest.mark.parametrize(
    ("net", "declared"),
    [(Named(), "(**images)"), (KeywordOnly(), "(*, x)"), (Nothing(), "()")],
    ids=["named", "keyword only", "nothing"],
)
def test_a_forward_without_a_place_for_images(net: nn.Module, declared: str) -> None:
    assert refusal(net) == (
        "`Net`: expected a forward whose first argument is a batch of images, got "
        f"`forward{declared}`; declare one, as in `forward(self, images)`"
    )


class NeedsKeyword(Net):
    def forward(self, x: Tensor, *, scale: float, shift: int = 0) -> Tensor:  # type: ignore[override]
        return self.run(x) * scale


class NeedsTwo(Net):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return self.run(x) * mask


@pytest.mark.parametrize(
    ("net", "declared", "needed"),
    [
        (NeedsKeyword(), "(x, *, scale, shift=0)", "`scale`"),
        (NeedsTwo(), "(x, mask)", "`mask`"),
    ],
    ids=["keyword", "position"],
)
def test_a_forward_that_needs_more_than_images(net: nn.Module, declared: str, needed: str) -> None:
    assert refusal(net) == (
        f"`Net`: expected a forward that needs images alone, got `forward{declared}`, which needs "
        f"{needed} too; give defaults, or convert a module whose forward(images) calls it"
    )


class Checks(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("my own check\nand a second line")


class Forgets(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.run(x) + {}["missing"]  # type: ignore[no-any-return]


class Doubles(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.run(x.double())


class Shapes(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"got {(*x.shape[:2], 8, 8)}")


class Silent(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (Checks(), "ValueError: my own check"),
        (Forgets(), "KeyError: 'missing'"),
        (Shapes(), r"RuntimeError: got \(\d, \d, 8, 8\)"),
        (Doubles(), r"RuntimeError: Input type \(double\) and bias type \(float\).*"),
        (Silent(), "AssertionError"),
    ],
    ids=["ValueError", "KeyError", "shape", "dtype", "no message"],
)
def test_a_fault_of_the_code_is_told_with_its_line_and_no_word_of_the_size(
    net: nn.Module, why: str
) -> None:
    message = refusal(net)
    start = r"^`Net` does not run on a batch of images of \(3, 8, 8\): "
    assert re.fullmatch(start + why + r" \(tracing/test_calling\.py:\d+\)", message), message


def test_a_size_that_the_network_runs_at_is_told() -> None:
    assert refusal(Net(in_channels=1)).endswith(
        "; it runs on images of (1, 8, 8): give `input_size=(1, 8, 8)`"
    )

    class Flat(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stem(x).flatten(1))

    assert refusal(Flat(in_features=4 * 28 * 28)).endswith("give `input_size=(3, 28, 28)`")
    assert refusal(Flat(in_features=4 * 17 * 17)).endswith(
        "; if it expects another size, give it with `input_size=`"
    )


def test_a_lazy_network_sees_no_other_images_than_it_was_given() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.sizes = nn.LazyLinear(3), []

        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(tuple(x.shape))
            raise RuntimeError(f"not {x.shape}")

    net = Lazy()
    assert "input-size" not in refusal(net)
    assert net.sizes == [(2, 3, 8, 8)]


Pair = namedtuple("Pair", "logits loss")


@dataclasses.dataclass
class Answer:
    logits: Tensor


RESULTS = [
    (lambda y: (y, None), "`output[1]` is None"),
    (lambda y: {"out": y, "aux": None}, "`output['aux']` is None"),
    (lambda y: {"out": y, "aux": [y, "name"]}, "`output['aux'][1]` is a str"),
    (lambda y: (y, 3), "`output[1]` is an int"),
    (lambda y: Pair(y, 0.5), "`output.loss` is a float"),
    (lambda y: Answer(y), "`output` is an Answer"),
    (lambda y: {"a": [Answer(y)]}, "`output['a'][0]` is an Answer"),
    (lambda y: {y}, "`output` is a set"),
    (lambda y: "text", "`output` is a str"),
    (lambda y: (y, tuple(y.shape)), "`output[1][0]` is an int"),
    (lambda y: y.sum(1), "`output` is a tensor of shape (2,)"),
    (lambda y: {"out": y, "loss": [y.mean()]}, "`output['loss'][0]` is a tensor of shape ()"),
]


@pytest.mark.parametrize(("make", "words"), RESULTS, ids=[words for _, words in RESULTS])
def test_the_result_that_is_no_batch_of_tensors_is_named(make: Any, words: str) -> None:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:
            return make(self.run(x))

    expected = (
        "`Net`: expected logits of shape (batch, num_classes), a feature map, or a list of these"
    )
    advice = "" if "a tensor" in words else "; return tensors alone"
    assert refusal(Returns()) == f"{expected}, but {words}{advice}"


def test_logits_of_no_class_are_no_answer() -> None:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:
            return self.run(x)[:, :0]

    told = refusal(Returns())
    assert told.endswith(
        "a tensor of shape (2, 0), which holds nothing; give it at least one class"
    )


@pytest.mark.parametrize("empty", [[], (), {}], ids=["list", "tuple", "dict"])
def test_nothing_is_no_answer(empty: Any) -> None:
    class Returns(Net):
        def forward(self, x: Tensor) -> Any:
            return empty

    assert refusal(Returns()).endswith(f"of these, got an empty {type(empty).__name__}")


def test_tracing_says_the_same_of_networks_that_nobody_called_before() -> None:
    with pytest.raises(TraceError, match=r"^`NeedsTwo`: expected a forward that needs images alo"):
        trace(NeedsTwo(), (3, 8, 8))
    with pytest.raises(TraceError, match=r"^`Checks` does not run .*my own check \(tracing/test_"):
        trace(Checks(), (3, 8, 8))


def test_a_cause_without_words_is_its_class() -> None:
    assert cause(KeyError()) == "KeyError"
    assert cause(ValueError("\n")) == "ValueError"


@pytest.mark.slow
def test_any_number_of_arguments_goes_the_whole_way(tmp_path: Any) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3),
                nn.BatchNorm2d(8),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.BatchNorm2d(8),
            )
            self.head = nn.Linear(8, 3)

        def forward(self, *args: Tensor) -> Tensor:
            (x,) = args
            return self.head(self.layers(x).mean((2, 3)))

    for number, shortcut in enumerate(("none", "bireal")):
        options = irbin.SourceOptions(input_size=(3, 8, 8))
        network = irbin.convert(Whole(), source_options=options, shortcut=shortcut)
        irbin.export(network, tmp_path / str(number))
        x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = network.module.eval()(x)
        torch.testing.assert_close(irbin.load(tmp_path / str(number))(x), wanted)
