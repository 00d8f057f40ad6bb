import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from irbin.errors import SourceError, UsageError
from irbin.hub import reach
from irbin.records.options import SourceOptions
from irbin.sources.from_torchvision import modernized
from irbin.sources.spec import build, is_checkpoint, load_source, reload

TINY = "resnet10t"  # smallest plain residual network of timm
RANDOM = SourceOptions(pretrained=False)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network and empty caches, whatever the machine has."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(reach, "hub_has_address", lambda: True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TIMM_USE_OLD_CACHE", raising=False)

    def refuse(url: str, *args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("spec", [TINY, f"timm:{TINY}", f"{TINY}.c3_in1k"])
def test_timm_names(spec: str) -> None:
    network = load_source(spec, RANDOM)
    source = network.source
    assert source.architecture == f"timm:{TINY}"
    assert (source.trained, source.weights, source.num_classes) == (False, None, 1000)
    assert source.preprocessing.input_size == (3, 176, 176)
    assert network.plan is None
    assert load_source("resnet18", RANDOM).source.preprocessing.crop_pct == 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [TINY, "torchvision:squeezenet1_1", "paper:resnet20", "module:timm.models.resnet:resnet10t"],
)
def test_build_makes_the_same_architecture_again(spec: str) -> None:
    network = load_source(spec, SourceOptions(pretrained=False, num_classes=7))
    assert network.source.num_classes == 7
    assert shapes(build(network.source)) == shapes(network.module)


def test_build_follows_channels_size_and_arguments() -> None:
    options = SourceOptions(
        pretrained=False, input_size=(1, 64, 96), num_classes=3, model_kwargs={"depth": 2}
    )
    network = load_source("vit_tiny_patch16_224", options)
    assert network.source.preprocessing.input_size == (1, 64, 96)
    assert network.source.preprocessing.mean == (0.5,)
    rebuilt = build(network.source)
    assert shapes(rebuilt) == shapes(network.module)
    assert rebuilt(torch.zeros(1, 1, 64, 96)).shape == (1, 3)


def test_in_chans_alone_keeps_the_size_and_averages_statistics() -> None:
    seen = load_source(TINY, SourceOptions(pretrained=False, in_chans=1)).source.preprocessing
    assert seen.input_size == (1, 176, 176)
    assert seen.mean == (0.449,)


@pytest.mark.slow
def test_deprecated_timm_name_means_its_successor() -> None:
    source = load_source("tv_resnet34", RANDOM).source
    assert source.architecture == "timm:resnet34"


def test_torchvision_preprocessing_is_its_weights_preset() -> None:
    seen = load_source("torchvision:efficientnet_b1", RANDOM).source.preprocessing
    assert (seen.input_size, seen.interpolation) == ((3, 240, 240), "bilinear")
    assert seen.crop_pct == round(240 / 255, 6)


def test_paper_preprocessing_is_cifar_sized_with_imagenet_statistics() -> None:
    seen = load_source("paper:resnet20", RANDOM).source.preprocessing
    assert (seen.input_size, seen.crop_pct) == ((3, 32, 32), 1.0)
    assert seen.mean == (0.485, 0.456, 0.406)


def test_auxiliary_heads_are_left_out() -> None:
    module = load_source(
        "torchvision:googlenet", SourceOptions(pretrained=False, num_classes=4)
    ).module
    assert isinstance(module.train()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet19", "unknown model `resnet19`; nearest: `resnet18`"),
        ("resnet18.a1_in2k", "`resnet18` has no tag `a1_in2k`; nearest: `resnet18.a1_in1k`"),
        ("torchvision:resnet19", "unknown model `torchvision:resnet19`; nearest: `resnet18`"),
        ("torchvision:resnet18.V3", "has no weights `V3`; it has `IMAGENET1K_V1`"),
        ("torchvision:raft_small", "unknown model `torchvision:raft_small`"),
        ("paper:resnet21", "unknown network `paper:resnet21`: expected one of `paper:resnet20`"),
        ("hub:resnet18", "unknown source `hub:resnet18`: expected a timm name"),
        ("", "unknown source ``"),
        ("local-dir:/nowhere/at/all", "no such folder"),
        ("module:timm.models.resnet:resnet19", "has no `resnet19`; nearest: `resnet18`"),
        ("module:no_such_package:f", "`no_such_package` cannot be imported .ModuleNotFoundError"),
        ("module:timm", "expected `module:PACKAGE.MODULE:FACTORY`"),
        ("module:timm:__version__", "expected a function or class"),
        ("module:builtins:dict", "returns a torch.nn.Module, got a dict"),
    ],
)
def test_unknown_names(spec: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_source(spec, RANDOM)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (TINY, SourceOptions(model="resnet18"), "`model=`: names the architecture of a checkpoint"),
        (TINY, SourceOptions(num_classes=-1), "`num_classes`: expected 1 or more, or 0 for no"),
        ("paper:resnet20", SourceOptions(num_classes=0), "`paper:resnet20` always has a classif"),
        ("torchvision:alexnet", SourceOptions(num_classes=0), "expected 1 or more, got 0 .timm"),
        (TINY, SourceOptions(in_chans=0), "`in_chans`: expected 1 or more"),
        (TINY, SourceOptions(input_size=(3, 0, 9)), "`input_size`: expected positive sizes"),
        (TINY, SourceOptions(in_chans=1, input_size=(3, 9, 9)), "`in_chans=1`, but `input_size=`"),
        (TINY, SourceOptions(pretrained=False, model_kwargs={"zap": 1}), "'zap'; given"),
        ("torchvision:alexnet", SourceOptions(pretrained=False, model_kwargs={"zap": 1}), "'zap'"),
        *(
            (TINY, SourceOptions(pretrained=False, model_kwargs={name: "x"}), f"got `{name}`")
            for name in ("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay")
        ),
        (TINY, SourceOptions(remap=True), "`remap=`: says how to read a checkpoint file, and `res"),
        (TINY, SourceOptions(state_key="a"), "`state_key=`: says how to read a checkpoint file"),
        ("a.pth", SourceOptions(state_key="a", use_ema=True), "both choose the weights, got `a`"),
        ("paper:resnet20", SourceOptions(model_kwargs={"zap": 1}), "takes none"),
        (
            "module:torch.nn:Flatten",
            SourceOptions(model_kwargs={"start_dim": 0}),
            r"expected logits of shape \(batch, num_classes\), a feature map, or a list of these",
        ),
        ("module:torch.nn:Linear", SourceOptions(), "missing a required argument"),
    ],
)
def test_options_that_make_no_sense(spec: str, options: SourceOptions, message: str) -> None:
    with pytest.raises((UsageError, SourceError), match=message):
        load_source(spec, options)


def test_module_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets.py").write_text(
        "from torch import nn\n"
        "def make(width=4, num_classes=5):\n"
        "    net = nn.Sequential(nn.Conv2d(1, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                        nn.Linear(width, num_classes))\n"
        "    net.pretrained_cfg = {'input_size': (1, 28, 28), 'mean': (0.3,), 'std': (0.4,)}\n"
        "    return net\n"
        "def fails():\n"
        "    raise RuntimeError('out of luck')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    network = load_source("module:my_own_nets:make", SourceOptions(model_kwargs={"width": 6}))
    source = network.source
    assert (source.num_classes, source.trained) == (5, False)
    assert source.preprocessing.input_size == (1, 28, 28)
    assert source.preprocessing.mean == (0.3,)
    assert shapes(build(source)) == shapes(network.module)
    with pytest.raises(
        SourceError, match="`module:my_own_nets:fails` raised RuntimeError: out of luck"
    ):
        load_source("module:my_own_nets:fails", SourceOptions())


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import sys\nsys.exit('no arguments')\n", "importing `ending_net`"),
        ("def make(): raise SystemExit('no arguments')\n", "calling it"),
    ],
    ids=["imported", "called"],
)
def test_code_that_ends_the_program_is_told_so(
    code: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ending_net.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ending_net", raising=False)
    message = rf"{what} ended the program \(SystemExit: no arguments\), .*__main__"
    with pytest.raises(SourceError, match=message):
        load_source("module:ending_net:make", SourceOptions())


@pytest.mark.slow
def test_hub_weights_out_of_reach_name_repository_cache_and_way_out(offline: Path) -> None:
    with pytest.raises(SourceError) as caught:
        load_source("resnet18.a1_in1k", SourceOptions())
    message = str(caught.value)
    assert "`resnet18.a1_in1k` cannot be fetched: looked for `timm/resnet18.a1_in1k`" in message
    assert f"`{offline / 'hf'}`" in message
    assert "`pretrained=False`" in message
    assert "\n" not in message


def test_hub_repository_out_of_reach(offline: Path) -> None:
    with pytest.raises(
        SourceError, match=r"`hf-hub:me/mine` cannot be fetched: looked for `me/mine`.*local-dir"
    ):
        load_source("hf-hub:me/mine", SourceOptions())


def test_unresolvable_host_means_no_retries(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach, "hub_has_address", lambda: False)
    with pytest.raises(SourceError, match="cannot be resolved"):
        load_source("resnet18", SourceOptions())
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("torchvision:resnet18", "resnet18-f37072fd.pth"),
        ("gcvit_xxtiny", "gcvit_xxtiny_224_nvidia-d1"),
    ],
)
def test_url_weights_out_of_reach_name_url_and_cache_file(
    offline: Path, spec: str, file: str
) -> None:
    with pytest.raises(SourceError) as caught:
        load_source(spec, SourceOptions())
    assert "looked for `https://" in str(caught.value)
    assert str(offline / "torch" / "hub" / "checkpoints" / file) in str(caught.value)


def test_timm_model_without_weights_says_so() -> None:
    with pytest.raises(
        SourceError, match=r"no pretrained weights for `botnet50ts_256`.*pretrained=False"
    ):
        load_source("botnet50ts_256", SourceOptions())


def torchvision_cache(root: Path, name: str, **kwargs: bool) -> nn.Module:
    """Puts random weights where torch's hub would cache torchvision's."""
    torch.manual_seed(1)
    model = torchvision.models.get_model(name, weights=None, **kwargs)
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    folder = root / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / url.rpartition("/")[2])
    return model


def test_torchvision_weights_from_the_cache(offline: Path) -> None:
    model = torchvision_cache(offline, "squeezenet1_1")
    network = load_source("torchvision:squeezenet1_1", SourceOptions())
    assert same_weights(network.module, model)
    assert (network.source.trained, network.source.weights) == (True, "squeezenet1_1.IMAGENET1K_V1")
    assert network.source.class_names is not None
    assert network.source.class_names[0] == "tench"
    assert same_weights(reload(network.source).module, model)


@pytest.mark.slow
def test_torchvision_weights_with_other_classes_get_a_new_head(offline: Path) -> None:
    model = torchvision_cache(offline, "mnasnet0_5")
    network = load_source("torchvision:mnasnet0_5", SourceOptions(num_classes=4))
    assert network.source.num_classes == 4
    assert network.source.class_names is None
    assert not network.source.trained  # a random head teaches nothing
    assert "re-initialised at random for 4 classes, the file has 1000" in network.notes[0]
    own, theirs = network.module.state_dict(), model.state_dict()
    assert own["classifier.1.weight"].shape == (4, 1280)
    assert all(torch.equal(own[k], theirs[k]) for k in own if not k.startswith("classifier"))


@pytest.mark.slow
def test_torchvision_old_densenet_names(offline: Path) -> None:
    model = torchvision_cache(offline, "densenet121")
    (path,) = (offline / "torch" / "hub" / "checkpoints").iterdir()
    state = model.state_dict()
    old = dict(state)
    for kind in ("norm", "conv"):
        for digit in "12":
            old = {
                k.replace(f".{kind}{digit}.", f".{kind}.{digit}.") if "denselayer" in k else k: v
                for k, v in old.items()
            }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, path)
    assert same_weights(load_source("torchvision:densenet121", SourceOptions()).module, model)


def test_torchvision_old_names_of_vision_transformers() -> None:
    old = {"encoder.mlp.linear_1.weight": torch.ones(1), "encoder.mlp.linear_2.bias": torch.ones(1)}
    assert list(modernized("vit_b_16", old)) == ["encoder.mlp.0.weight", "encoder.mlp.3.bias"]
    assert list(modernized("resnet18", old)) == list(old)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5"])
def test_torchvision_weights_for_other_channels(offline: Path, name: str) -> None:
    model = torchvision_cache(offline, name)
    network = load_source(f"torchvision:{name}", SourceOptions(in_chans=1))
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        expected = model.eval()(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(network.module.eval()(image), expected)
    assert network.source.trained
    assert network.source.preprocessing.input_size[0] == 1
    assert "adapted from 3 to 1 image channels, as timm does" in network.notes[0]
    assert same_weights(reload(network.source).module, network.module)


@pytest.mark.slow
def test_torchvision_networks_that_convert_their_input_see_the_same_gray(offline: Path) -> None:
    model = torchvision_cache(offline, "googlenet", init_weights=False, transform_input=True)
    colour = load_source("torchvision:googlenet", SourceOptions()).source.preprocessing
    network = load_source("torchvision:googlenet", SourceOptions(in_chans=1))
    gray = network.source.preprocessing
    pixels = torch.rand(1, 1, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (colour.mean, colour.std))
    with torch.no_grad():
        expected = model.eval()((pixels.expand(-1, 3, -1, -1) - mean) / std)
        found = network.module.eval()((pixels - gray.mean[0]) / gray.std[0])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_damaged_cache_file_is_named(offline: Path) -> None:
    torchvision_cache(offline, "squeezenet1_1")
    (path,) = (offline / "torch" / "hub" / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError, match=f"`{path}`: the checkpoint is cut short"):
        load_source("torchvision:squeezenet1_1", SourceOptions())


@pytest.fixture
def timm_folder(tmp_path: Path) -> tuple[Path, nn.Module]:
    torch.manual_seed(2)
    model = timm.create_model(TINY, num_classes=3)
    folder = tmp_path / "published"
    config = {"num_classes": 3, "label_names": ["a", "b", "c"]}
    timm.models.save_for_hf(model, str(folder), model_config=config, safe_serialization=True)
    return folder, model


@pytest.mark.slow
def test_a_folder_of_a_network_does_not_choose_the_files_that_timm_reads() -> None:
    """As one from the hub might."""
    source = load_source(TINY, SourceOptions(pretrained=False)).source
    planted = replace(source, model_kwargs={"checkpoint_path": "theirs.pth"})
    with pytest.raises(UsageError, match="`checkpoint_path`, which names a file"):
        build(planted)


def test_local_folder_of_timm(timm_folder: tuple[Path, nn.Module]) -> None:
    folder, model = timm_folder
    network = load_source(f"local-dir:{folder}", SourceOptions())
    assert same_weights(network.module, model)
    assert network.source.class_names == ("a", "b", "c")
    assert network.source.architecture == f"timm:{TINY}"
    assert network.source.weights == str(folder)
    assert same_weights(reload(network.source).module, model)


@pytest.mark.slow
def test_local_folder_with_other_classes_and_channels(timm_folder: tuple[Path, nn.Module]) -> None:
    folder, model = timm_folder
    options = SourceOptions(num_classes=5, in_chans=1)
    network = load_source(f"local-dir:{folder}", options)
    own, theirs = network.module.state_dict(), model.state_dict()
    assert own["fc.weight"].shape[0] == 5
    assert torch.equal(own["layer1.0.conv1.weight"], theirs["layer1.0.conv1.weight"])
    assert own["conv1.0.weight"].shape[1] == 1
    assert network.source.class_names is None


@pytest.mark.slow
def test_local_folder_never_unpickles(
    timm_folder: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model = timm_folder
    (folder / "model.safetensors").unlink()
    torch.save(model, folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match="would run code to unpickle"):
        load_source(f"local-dir:{folder}", SourceOptions())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json"),
        ("{}", "expected timm's configuration"),
        (
            '{"model_type": "resnet"}',
            r"\(KeyError: 'architecture'\); give `model='NAME'` for its w",
        ),
        (None, "expected a `config.json`"),
        ('{"architecture": "resnet19", "pretrained_cfg": {}}', "unknown architecture `resnet19`"),
    ],
)
def test_local_folder_with_a_bad_config(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(SourceError, match=message):
        load_source(f"local-dir:{tmp_path}", SourceOptions())


def test_torchvision_style_file_with_model(tmp_path: Path) -> None:
    model = torchvision.models.squeezenet1_1(num_classes=6)
    path = tmp_path / "a.pth"
    torch.save(model.state_dict(), path)
    options = SourceOptions(model="torchvision:squeezenet1_1", num_classes=6)
    network = load_source(str(path), options)
    assert same_weights(network.module, model)
    assert network.source.spec == network.source.weights == str(path)
    assert network.source.trained
    assert same_weights(reload(network.source).module, model)


def timm_checkpoint(path: Path, ema: bool = False) -> tuple[nn.Module, nn.Module]:
    """As timm's script writes it after `--img-size 64 --mean 0.3 0.3 0.3 --num-classes 3`."""
    one, two = timm.create_model(TINY, num_classes=3), timm.create_model(TINY, num_classes=3)
    arguments = argparse.Namespace(
        model=TINY, num_classes=3, img_size=64, mean=[0.3, 0.3, 0.3], model_kwargs={}, crop_pct=None
    )
    content = {"arch": TINY, "epoch": 1, "args": arguments, "version": 2}
    content["state_dict"] = {f"_orig_mod.module.{k}": v for k, v in one.state_dict().items()}
    content["state_dict_ema"] = {f"module.{k}": v for k, v in two.state_dict().items()}
    torch.save(content, path)
    return one, two


@pytest.mark.slow
def test_timm_training_checkpoint_needs_no_model(tmp_path: Path) -> None:
    path = tmp_path / "last.pth.tar"
    one, two = timm_checkpoint(path)
    network = load_source(str(path), SourceOptions())
    assert same_weights(network.module, one)
    assert network.source.architecture == f"timm:{TINY}"
    assert network.source.num_classes == 3
    assert network.source.preprocessing.input_size == (3, 64, 64)
    assert network.source.preprocessing.mean == (0.3, 0.3, 0.3)
    averaged = load_source(str(path), SourceOptions(use_ema=True))
    assert same_weights(averaged.module, two)
    assert same_weights(reload(averaged.source).module, two)
    assert same_weights(reload(network.source).module, one)


@pytest.mark.slow
def test_safetensors_with_model(tmp_path: Path) -> None:
    model = timm.create_model(TINY, num_classes=3)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    options = SourceOptions(model=TINY, num_classes=3)
    assert same_weights(load_source(str(tmp_path / "a.safetensors"), options).module, model)


def test_checkpoint_without_architecture_asks_for_model(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    with pytest.raises(SourceError, match=r"does not say which architecture.*give `model='NAME'`"):
        load_source(str(tmp_path / "a.pth"), SourceOptions())


def test_checkpoint_of_another_model(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    message = (
        r"does not fit the network: missing `conv1.0.weight`.*unexpected `weight`, `bias`; wrong"
    )
    with pytest.raises(SourceError, match=message):
        load_source(str(tmp_path / "a.pth"), SourceOptions(model=TINY))


@pytest.mark.slow
def test_checkpoint_of_another_class_count(tmp_path: Path) -> None:
    model = timm.create_model(TINY, num_classes=3)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(SourceError, match="it may have 3 classes: give `num_classes=`"):
        load_source(str(tmp_path / "a.safetensors"), SourceOptions(model=TINY))


def test_model_must_not_be_a_file_itself(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    with pytest.raises(UsageError, match="expected an architecture's name, got the file"):
        load_source(str(tmp_path / "a.pth"), SourceOptions(model="b.pth"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a.pth", True),
        ("runs/b.pth.tar", True),
        ("resnet18", False),
        ("resnet18.a1_in1k", False),
        ("hf-hub:me/net.bin", False),
        ("paper:resnet20", False),
        ("local-dir:x.pt", False),
    ],
)
def test_what_is_read_as_a_checkpoint(spec: str, expected: bool) -> None:
    assert is_checkpoint(spec) is expected
