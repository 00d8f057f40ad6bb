import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from irbin.errors import SourceError, UsageError
from irbin.records.options import SourceOptions
from irbin.sources.by_name import open_network, reopen
from irbin.sources.folder import save_folder
from irbin.sources.spec import load_source

PLAIN = SourceOptions(pretrained=False, num_classes=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(load_source("paper:resnet20", PLAIN), tmp_path / "net")
    return tmp_path / "net"


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_network_folder(folder: Path) -> None:
    network = open_network(str(folder), SourceOptions())
    assert network.source.architecture == "paper:resnet20"
    assert network.source.num_classes == 3


def test_run_folder(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "best")
    (run / "args.yaml").write_text("")
    assert open_network(str(run), SourceOptions()).source.spec == str(run / "best")


def test_timm_folder(tmp_path: Path) -> None:
    model = timm.create_model("resnet10t", num_classes=3)
    timm.models.save_for_hf(model, str(tmp_path / "pub"), safe_serialization=True)
    network = open_network(str(tmp_path / "pub"), SourceOptions())
    assert same_weights(network.module, model)
    assert network.source.spec == f"local-dir:{tmp_path / 'pub'}"


def test_checkpoint_file(tmp_path: Path) -> None:
    model = load_source("paper:resnet20", PLAIN).module
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pt")
    options = SourceOptions(model="paper:resnet20", num_classes=3)
    assert same_weights(open_network(str(tmp_path / "a.pt"), options).module, model)


def test_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet10t").mkdir()  # a folder that is no network hides no name
    assert open_network("resnet10t", PLAIN).source.architecture == "timm:resnet10t"


def test_packed_folder_says_which_commands_take_it(tmp_path: Path) -> None:
    (tmp_path / "program.json").write_text("{}")
    with pytest.raises(SourceError, match=r"is a packed folder.*`irbin inspect` and `irbin eval`"):
        open_network(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./nothing", r"`./nothing`: no such file or folder"),
        ("nothing.pth", "`nothing.pth`: no such file or folder"),
        ("runs/a/b", "`runs/a/b`: no such file or folder$"),
        ("me/mine", "no such file or folder; a hub repository is written `hf-hub:me/mine`"),
        ("~/no/such/place", "no such file or folder"),
        ("nothing", "unknown model `nothing`"),
    ],
)
def test_paths_that_do_not_exist_are_not_called_unknown_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        open_network(spec, SourceOptions())


def test_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected a folder with `config.json`"):
        open_network(str(tmp_path), SourceOptions())


@pytest.mark.parametrize(
    "options",
    [
        SourceOptions(model="resnet18"),
        SourceOptions(num_classes=10),
        SourceOptions(in_chans=1),
        SourceOptions(input_size=(1, 32, 32)),
        SourceOptions(model_kwargs={"drop_rate": 0.1}),
    ],
    ids=lambda o: str(o)[:60],
)
def test_options_that_contradict_a_folder(folder: Path, options: SourceOptions) -> None:
    with pytest.raises(UsageError, match=r"says .* itself, got .*; leave it out"):
        open_network(str(folder), options)


def test_options_that_agree_with_a_folder(folder: Path) -> None:
    options = SourceOptions(model="paper:resnet20", num_classes=3, input_size=(3, 32, 32))
    assert open_network(str(folder), options).source.num_classes == 3


@pytest.mark.slow
def test_reopen_finds_the_weights_again(folder: Path, tmp_path: Path) -> None:
    network = open_network(str(folder), SourceOptions())
    assert same_weights(reopen(network.source).module, network.module)
    torch.save(network.module.state_dict(), tmp_path / "a.pt")
    options = SourceOptions(model="paper:resnet20", num_classes=3)
    from_file = open_network(str(tmp_path / "a.pt"), options)
    assert same_weights(reopen(from_file.source).module, network.module)


def test_reopen_says_what_is_gone(folder: Path, tmp_path: Path) -> None:
    source = open_network(str(folder), SourceOptions()).source
    with pytest.raises(SourceError, match=r"gone`: no such file or folder"):
        reopen(replace(source, spec=str(tmp_path / "gone")))


def test_a_network_of_the_zoo_is_named_as_it_was_typed() -> None:
    """Its folder lies elsewhere on another machine; the name is the same."""
    network = open_network("zoo:resnet20-cifar10-float", SourceOptions())
    assert network.source.spec == "zoo:resnet20-cifar10-float"
    again = reopen(network.source)
    assert again.source == network.source
    assert same_weights(again.module, network.module)


def test_a_folder_of_transformers_has_a_prefix(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    cfg = {"input_size": [3, 64, 64], "num_classes": 3}
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "pretrained_cfg": cfg,
        "model_type": "timm_wrapper",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({f"timm_model.{n}": t for n, t in state.items()}, tmp_path / "model.safetensors")
    network = open_network(str(tmp_path), SourceOptions())
    assert "after removing the prefix `timm_model.`" in network.notes[0]
    assert torch.equal(network.module.fc.weight, state["fc.weight"])


@pytest.mark.parametrize("config", [None, '{"model_type": "resnet"}'])
def test_a_folder_that_does_not_say_its_architecture(tmp_path: Path, config: str | None) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({f"resnet.{n}": t for n, t in state.items()}, tmp_path / "pytorch_model.bin")
    if config is None:
        with pytest.raises(SourceError, match=r"weights `pytorch_model\.bin` alone; give `model="):
            open_network(str(tmp_path), SourceOptions())
    else:
        (tmp_path / "config.json").write_text(config)
    options = SourceOptions(model="test_resnet", num_classes=3)
    network = open_network(str(tmp_path), options)
    assert torch.equal(network.module.fc.weight, state["fc.weight"])


@pytest.mark.slow
def test_extra_tensors_are_left_on_request_and_listed(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    more = {**state, "proj.weight": torch.ones(2), "queue": torch.ones(3)}
    torch.save(more, tmp_path / "w.pth")
    options = SourceOptions(model="test_resnet", num_classes=3)
    with pytest.raises(
        SourceError, match=r"unexpected `proj\.weight`, `queue`; .*`ignore_extra=True`"
    ):
        open_network(str(tmp_path / "w.pth"), options)
    options = replace(options, ignore_extra=True)
    network = open_network(str(tmp_path / "w.pth"), options)
    assert network.notes[0].endswith(
        "tensors matched by name; 2 left unused: `proj.weight`, `queue`"
    )
    assert torch.equal(reopen(network.source).module.fc.weight, state["fc.weight"])
    torch.save({n: t for n, t in more.items() if n != "fc.bias"}, tmp_path / "w.pth")
    with pytest.raises(SourceError, match=r"missing `fc\.bias`"):
        open_network(str(tmp_path / "w.pth"), SourceOptions(model="test_resnet", ignore_extra=True))


@pytest.mark.slow
def test_averaged_weights_beside_the_others_by_name(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    averaged = {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}
    both = {f"module.{n}": t for n, t in state.items()}
    both |= {f"ema.module.{n}": t for n, t in averaged.items()}
    torch.save(both, tmp_path / "w.pth")
    options = SourceOptions(model="test_resnet", num_classes=3)
    network = open_network(str(tmp_path / "w.pth"), options)
    assert torch.equal(network.module.fc.weight, state["fc.weight"])
    assert "averaged tensors under `ema.` (`use_ema=True` takes them)" in network.notes[0]
    network = open_network(str(tmp_path / "w.pth"), replace(options, use_ema=True))
    assert torch.equal(network.module.fc.weight, averaged["fc.weight"])
    torch.save({n: t for n, t in both.items() if n.startswith("ema")}, tmp_path / "w.pth")
    network = open_network(str(tmp_path / "w.pth"), options)
    assert torch.equal(network.module.fc.weight, averaged["fc.weight"])


def test_a_folder_without_configuration_is_no_unknown_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("empty", "weights", "resnet18"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"^`empty`: expected a folder with `config.json`"):
        open_network("empty", SourceOptions())
    with pytest.raises(SourceError, match=r"the weights `model.safetensors` alone; give `model="):
        open_network("weights", SourceOptions())
    network = open_network("resnet18", SourceOptions(pretrained=False))
    assert network.source.architecture == "timm:resnet18"
