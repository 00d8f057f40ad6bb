"""Each image's result depends on that image alone, or the program is refused by node and line."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from irbin.errors import LowerError
from irbin.program.batch import RULES
from irbin.program.lower import lower
from irbin.program.vocabulary import signatures

SIZE = (4, 6, 6)


class Net(nn.Module):
    """A network that is one function of the images, and a convolution with statistics."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.table = nn.Parameter(torch.linspace(-1, 1, 16).reshape(4, 4))
        self.token = nn.Parameter(torch.ones(1, 1, 4))
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        return self.function(self, x)


def rows(x):
    return x.flatten(1)


def written_into_others(m, x):
    y = x * 2
    y[1:] = x[1:] * 3
    return y


MIXING = {
    "batch statistics": lambda m, x: m.norm(x),
    "minus the mean of the batch": lambda m, x: x - x.mean(0),
    "softmax over the batch": lambda m, x: x.softmax(0),
    "a running sum": lambda m, x: x.cumsum(0),
    "flipped": lambda m, x: x.flip(0),
    "flipped with other axes": lambda m, x: x.flip((3, 0)),
    "rolled": lambda m, x: x.roll(1, 0),
    "rolled flat": lambda m, x: x.roll(1),
    "similarity of images": lambda m, x: rows(x) @ rows(x).T,
    "attention between images": lambda m, x: (rows(x) @ rows(x).T).softmax(-1) @ rows(x),
    "one image for all": lambda m, x: x - x[0],
    "the last image": lambda m, x: x + x[-1:],
    "every other image": lambda m, x: x[::2],
    "mean of everything": lambda m, x: x / x.mean(),
    "norm of everything": lambda m, x: x / x.norm(),
    "the number of images": lambda m, x: x / x.shape[0],
    "places in the batch": lambda m, x: rows(x) * torch.arange(x.shape[0])[:, None],
    "images as channels": lambda m, x: F.avg_pool2d(x.permute(2, 3, 0, 1), 2),
    "images as features": lambda m, x: rows(x).T.contiguous() @ rows(x),
    "images in the middle of a block": lambda m, x: x.transpose(0, 1).reshape(-1, 4, 36).sum(1),
    "neighbors joined": lambda m, x: torch.cat([x, x.flip(0)], 1),
    "a product by einsum": lambda m, x: torch.einsum("nchw,mchw->nchw", x, x),
    "a maximum of the batch": lambda m, x: x - x.max(0).values,
    "variance of the batch": lambda m, x: x * x.var(0, correction=0),
    "batch and channels swapped": lambda m, x: m.conv(x[:4].transpose(0, 1)),
    "some images written into": written_into_others,
    "numbers spread over the batch": lambda m, x: (
        rows(x) * torch.linspace(0, 1, x.shape[0])[:, None]
    ),
    "another image's place": lambda m, x: x[torch.arange(x.shape[0]) - 1],
}


@pytest.mark.slow
@pytest.mark.parametrize("function", MIXING.values(), ids=MIXING)
def test_what_mixes_images_is_refused_with_its_line(function):
    with pytest.raises(LowerError) as caught:
        lower(Net(function), SIZE)
    message = str(caught.value)
    assert "\n" not in message
    assert "program/test_batch.py:" in message or "bound to the batch" in message


@pytest.mark.slow
def test_the_message_names_operator_module_and_way():
    net = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False))
    message = (
        r"`aten\._native_batch_norm_legit\.no_stats` in `1` mixes the images of a batch; a packed "
        "network runs a batch in parts, so each image's result must depend on that image alone"
    )
    with pytest.raises(LowerError, match=message):
        lower(net, SIZE)


def windows(m, x):
    n = x.shape[0]
    parts = x.reshape(n, 4, 3, 2, 3, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 4)
    mixed = (parts @ parts.transpose(1, 2)).reshape(n, 9, 4, 4) + m.table
    back = mixed.reshape(-1, 4, 4).softmax(-1) @ parts
    return back.reshape(n, 3, 3, 2, 2, 4).permute(0, 5, 1, 3, 2, 4).reshape(n, 4, 6, 6)


def per_image_convolution(m, x):
    """CondConv's: every image is a group of channels with weights of its own."""
    n = x.shape[0]
    weights = (x.mean((2, 3)).sigmoid() @ m.table).reshape(n, 4, 1, 1, 1)
    weights = (weights * m.conv.weight).reshape(n * 4, 4, 3, 3)
    out = F.conv2d(x.reshape(1, n * 4, 6, 6), weights, padding=1, groups=n)
    return out.reshape(n, 4, 6, 6)


def written_into_parts(m, x):
    """As `y[:, a:b] = …` is exported: written into all images, in part."""
    y = x * 2
    y[:, :2] += m.conv(x)[:, :2]
    y[:, 1:3, ::2] = x[:, :2, 1::2]
    y[:, -1] = x[:, 0]
    return y


APART = {
    "parts written into": written_into_parts,
    "layers": lambda m, x: m.conv(x).relu() + x,
    "windows": windows,
    "weights of each image": per_image_convolution,
    "statistics of each image": lambda m, x: F.instance_norm(x),
    "statistics of each image by hand": lambda m, x: F.batch_norm(
        x.reshape(1, -1, 6, 6), None, None, training=True
    ).reshape(-1, 4, 6, 6),
    "a token before": lambda m, x: torch.cat(
        [m.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1
    ),
    "repeated tokens": lambda m, x: m.token.repeat(x.shape[0], 3, 1) + x.mean((2, 3))[:, None],
    "images second": lambda m, x: x.transpose(0, 1).softmax(0).transpose(0, 1),
    "heads apart": lambda m, x: x.reshape(-1, 2, 2, 36).permute(2, 0, 1, 3).unbind(0)[1],
    "twice the batch": lambda m, x: torch.cat([x, x.flip(3)]).chunk(2)[1],
    "twice the batch by place": lambda m, x: torch.cat([x, -x]).reshape(2, -1, 4, 6, 6).sum(0),
    "own row": lambda m, x: rows(x)[torch.arange(x.shape[0]), rows(x).max(1).indices],
    "a table by values": lambda m, x: m.table[x.mean((1, 2, 3)).clamp(0, 3).long()],
    "einsum": lambda m, x: torch.einsum("nchw,ck->nkhw", x, m.table),
    "einsum of two": lambda m, x: torch.einsum("nchw,nchw->nhw", x, x),
    "unfolded and folded": lambda m, x: F.fold(F.unfold(x, 3, padding=1), 6, 3, padding=1),
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x, x),
    "zeros beside": lambda m, x: torch.cat([x, x.new_zeros(x.shape[0], 1, 6, 6)], 1),
    "a grid with a number of each image": lambda m, x: torch.meshgrid(
        x.mean((1, 2, 3)), m.table[0], indexing="ij"
    )[0],
    "repeat_interleave": lambda m, x: x.repeat_interleave(3, 0).reshape(-1, 3, 144).sum(1),
}


@pytest.mark.slow
@pytest.mark.parametrize("function", APART.values(), ids=APART)
def test_what_keeps_images_apart_is_lowered_and_answers_each_alone(function):
    torch.manual_seed(0)
    net = Net(function).eval()
    lower(net, SIZE)
    x = torch.randn(3, *SIZE)
    with torch.no_grad():
        alone = torch.cat([net(one[None]) for one in x])
        assert torch.allclose(net(x), alone, atol=1e-5)


@pytest.mark.parametrize("function", MIXING.values(), ids=MIXING)
def test_the_refused_ones_do_mix(function):
    """The list above is no list of false alarms: batch and single image differ, or it fails."""
    torch.manual_seed(0)
    net = Net(function).eval()
    x = torch.randn(4, *SIZE) * torch.linspace(0.1, 4, 4).view(-1, 1, 1, 1)
    with torch.no_grad():
        try:
            alone = torch.cat([net(one[None]) for one in x])
            whole = net(x)
        except RuntimeError:
            return
    assert whole.shape != alone.shape or not torch.allclose(whole, alone, atol=1e-5)


def test_every_operator_has_a_rule():
    assert set(RULES) == set(signatures()) - {"getitem"}  # which is what it is taken from
