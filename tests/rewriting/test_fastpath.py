"""A transformer of torch's answers with its binary weights in every mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import irbin
from irbin import SourceOptions
from irbin.binary.layers import binary_layers


class Encoder(nn.Module):
    def __init__(self, width: int = 16, decode: bool = False, **kwargs: object) -> None:
        super().__init__()
        self.patch, self.decode = nn.Conv2d(3, width, 4, 4), decode
        kwargs |= {"dropout": 0.0, "batch_first": True}
        if decode:
            self.layers = nn.TransformerDecoder(
                nn.TransformerDecoderLayer(width, 2, 24, **kwargs), 1
            )
        else:
            layer = nn.TransformerEncoderLayer(width, 2, 24, **kwargs)
            nested = not kwargs.get("norm_first", False)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.layers(*[tokens] * (1 + self.decode)).mean(1))


def image() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


KINDS = {
    "encoder": {"activation": "gelu"},
    "norm-first": {"activation": "gelu", "norm_first": True},
    "decoder": {"activation": "gelu", "decode": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("kwargs", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("bits", ["1w1a", "1w32a"])
def test_transformers_of_torch_use_their_binary_weights_in_every_mode(
    kwargs: dict, bits: str, tmp_path
) -> None:
    torch.manual_seed(0)
    options = SourceOptions(input_size=(3, 16, 16))
    network = irbin.convert(Encoder(**kwargs), source_options=options, bits=bits)
    module, x = network.module.eval(), image()
    names = [name.rpartition(".")[2] for name in binary_layers(module)]
    assert {"linear1", "linear2"} <= set(names)
    with torch.enable_grad():
        wanted = module(x).detach()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(module(x), wanted)
    module.train()
    torch.testing.assert_close(module(x).detach(), wanted)
    irbin.export(network, tmp_path / "packed")
    torch.testing.assert_close(irbin.load(tmp_path / "packed")(x), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_masked_tokens_of_a_converted_encoder_run() -> None:
    torch.manual_seed(0)
    network = irbin.convert(
        Encoder(activation="gelu"), source_options=SourceOptions(input_size=(3, 16, 16))
    )
    encoder = network.module.eval().layers
    tokens = torch.randn(2, 6, 16)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[:, 4:] = True
    with torch.enable_grad():
        wanted = encoder(tokens, src_key_padding_mask=mask).detach()
    with torch.no_grad():
        found = encoder(tokens, src_key_padding_mask=mask)
    torch.testing.assert_close(found[:, :4], wanted[:, :4])
