import pytest
import torch
from torch import fx

from irbin.errors import LowerError
from irbin.program.chance import draws_numbers, refuse_chance


def node(target, *args, **kwargs) -> fx.Node:
    graph = fx.Graph()
    return graph.call_function(target, (graph.placeholder("x"), *args), kwargs)


@pytest.mark.parametrize(
    ("drawn", "is_drawn"),
    [
        (node(torch.ops.aten.dropout.default, 0.5, True), True),
        (node(torch.ops.aten.dropout.default, 0.5, False), False),
        (node(torch.ops.aten.dropout.default, 0.0, True), False),
        (node(torch.ops.aten.bernoulli.p, 0.5), True),
        (node(torch.ops.aten.rrelu.default), False),
        (node(torch.ops.aten.rrelu.default, training=True), True),
        (node(torch.ops.aten.relu.default), False),
    ],
)
def test_what_draws_is_known_by_its_tag_and_its_flag(drawn, is_drawn):
    assert draws_numbers(drawn) is is_drawn


def test_the_way_out_is_named_where_there_is_one():
    with pytest.raises(LowerError, match=r"^`aten\.rrelu\.default` draws .*`F\.rrelu\(x, train"):
        refuse_chance(node(torch.ops.aten.rrelu.default, training=True))
    with pytest.raises(LowerError, match=r"^`aten\.bernoulli\.p` draws .* to one image$"):
        refuse_chance(node(torch.ops.aten.bernoulli.p, 0.5))
