import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

import irbin
from irbin.binary.layers import phase_of
from irbin.errors import SourceError, UsageError
from irbin.files import whole_folder
from irbin.planning.plan import make_plan
from irbin.records.options import SourceOptions
from irbin.records.plan import Plan, PlanOptions
from irbin.rewriting.network import Network
from irbin.rewriting.rewrite import rewrite
from irbin.sources.folder import (
    folder_kind,
    load_folder,
    network_folder,
    recorded,
    refuse_existing,
    save_folder,
)
from irbin.sources.spec import load_source
from irbin.tracing.trace import trace

TINY = SourceOptions(pretrained=False, num_classes=3)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return load_source("paper:resnet20", TINY)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_what_a_folder_says_of_its_source_needs_no_weights(tmp_path: Path, network) -> None:
    save_folder(network, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    assert recorded(tmp_path / "out") == network.source
    with pytest.raises(SourceError, match="expected a folder written by"):
        recorded(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "paper:resnet20",
        "resnet10t",
        "torchvision:mnasnet0_5",
        "module:timm.models.resnet:resnet10t",
    ],
)
def test_save_then_load_is_identity(tmp_path: Path, spec: str) -> None:
    network = load_source(spec, TINY)
    network = replace(network, source=replace(network.source, class_names=("a", "b", "ç")))
    save_folder(network, tmp_path / "out")
    loaded = load_folder(tmp_path / "out")
    assert same_weights(loaded.module, network.module)
    assert loaded.plan is None
    assert loaded.source == replace(network.source, spec=str(tmp_path / "out"))


@pytest.mark.slow
def test_timm_itself_reads_a_float_folder(tmp_path: Path) -> None:
    network = load_source("resnet10t", SourceOptions(pretrained=False, num_classes=3, in_chans=1))
    source = replace(network.source, class_names=("a", "b", "c"))
    save_folder(replace(network, source=source), tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert same_weights(model, network.module)
    assert model.pretrained_cfg["label_names"] == ["a", "b", "c"]
    assert tuple(model.pretrained_cfg["input_size"]) == (1, 176, 176)


def test_config_has_timms_keys_and_ours(tmp_path: Path, network: Network) -> None:
    save_folder(network, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == "paper:resnet20"
    assert (config["num_classes"], config["num_features"]) == (3, 64)
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert config["irbin"]["version"] == irbin.__version__
    assert (config["irbin"]["format"], config["irbin"]["plan"]) == ("network", None)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(network.module.state_dict())


def test_aliased_and_strided_tensors_are_written_under_every_name(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two = self.one
            self.view = nn.Parameter(torch.arange(12.0).view(3, 4).t())
            self.part = nn.Parameter(torch.arange(12.0)[4:8])

    network = load_source("paper:resnet20", TINY)
    tied = Tied()
    save_folder(replace(network, module=tied), tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        for name, tensor in tied.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor), name


def test_existing_output_is_refused_and_left_alone(tmp_path: Path, network: Network) -> None:
    save_folder(network, tmp_path / "out")
    before = (tmp_path / "out" / "config.json").stat().st_mtime_ns
    with pytest.raises(
        UsageError, match=r"out` exists; choose another folder, or give `overwrite=True`"
    ):
        save_folder(network, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").stat().st_mtime_ns == before


def test_overwrite_replaces_a_network_folder(tmp_path: Path, network: Network) -> None:
    save_folder(network, tmp_path / "out")
    (tmp_path / "out" / "training.json").write_text("{}")
    other = load_source("paper:resnet20", TINY)
    save_folder(other, tmp_path / "out", overwrite=True)
    assert same_weights(load_folder(tmp_path / "out").module, other.module)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "training.json").exists()


def test_overwrite_never_deletes_something_else(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name in ("photos", "file"):
        with pytest.raises(UsageError, match="`overwrite=True` will not delete it"):
            refuse_existing(tmp_path / name, overwrite=True)
        with pytest.raises(UsageError, match=r"is no network folder; choose another folder$"):
            refuse_existing(tmp_path / name, overwrite=False)
    refuse_existing(tmp_path / "empty", overwrite=True)
    refuse_existing(tmp_path / "new", overwrite=False)


@pytest.mark.parametrize("key", ["source", "plan"])
def test_a_key_that_is_missing_is_named(tmp_path: Path, network: Network, key: str) -> None:
    save_folder(network, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    del config["irbin"][key]
    (tmp_path / "out/config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=f"config.json.*: `irbin.{key}` missing; write"):
        load_folder(tmp_path / "out")


def test_nothing_half_written_is_left(tmp_path: Path, network: Network) -> None:
    save_folder(network, tmp_path / "out")

    class Interrupted(BaseException):
        pass

    def write_half(path: Path) -> None:
        with whole_folder(path) as partial:
            (partial / "config.json").write_text("half")
            raise Interrupted

    for name in ("out", "new"):
        with pytest.raises(Interrupted):
            write_half(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert same_weights(load_folder(tmp_path / "out").module, network.module)


def test_leftovers_of_a_killed_process_do_not_matter(tmp_path: Path, network: Network) -> None:
    for leftover in ("out.partial", "out.previous"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "junk").write_text("")
    save_folder(network, tmp_path / "out")
    save_folder(network, tmp_path / "out", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_unwritable_place(tmp_path: Path, network: Network) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be written"):
        save_folder(network, tmp_path / "file" / "out")


def test_live_module_cannot_be_saved(tmp_path: Path, network: Network) -> None:
    live = replace(network, source=replace(network.source, architecture="live:Net"))
    with pytest.raises(SourceError, match="nothing says how to build `live:Net` again"):
        save_folder(live, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def damage(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif how == "cut config":
        (folder / "config.json").write_text(json.dumps(config)[:50])
        return
    elif how == "no source":
        del config["irbin"]["source"]
    elif how == "other format":
        config["irbin"]["format"] = "packed"
    elif how == "unknown architecture":
        config["irbin"]["source"]["architecture"] = "jax:resnet"
    elif how == "classes":
        config["irbin"]["source"]["num_classes"] = 4
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "model.safetensors`: no such file"),
        ("cut weights", "cut short or damaged"),
        ("cut config", r"config.json`: expected JSON"),
        ("no source", r"config.json` \(written by irbin .*, this is .*\): `irbin.source` missing"),
        ("other format", "expected a folder written by `irbin convert` or `finetune`"),
        ("unknown architecture", "expected `timm:`, `torchvision:`.*got `jax:resnet`"),
        ("classes", "does not fit the network: `linear.weight`"),
    ],
)
def test_damaged_folders(tmp_path: Path, network: Network, how: str, message: str) -> None:
    save_folder(network, tmp_path / "out")
    damage(tmp_path / "out", how)
    with pytest.raises(SourceError, match=message):
        load_folder(tmp_path / "out")


def test_plan_travels_in_the_config(tmp_path: Path, network: Network) -> None:
    plan = Plan(PlanOptions(), (), (3, 32, 32), 0, 0, 0)
    save_folder(replace(network, plan=plan), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["irbin"]["plan"]["options"]["bits"] == "1w1a"
    config["irbin"]["plan"]["options"]["bits"] = "2w2a"
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=r"at `plan.*|at `options.bits`"):
        load_folder(tmp_path / "out")


def test_images_that_cannot_be_fed_so_are_refused(tmp_path: Path, network: Network) -> None:
    save_folder(network, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["irbin"]["source"]["preprocessing"]["interpolation"] = "foo"
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=r"at `source.preprocessing`: `interpolation`: expected"):
        load_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, None),
        ({"notes.txt": ""}, None),
        ({"config.json": '{"irbin": {}}'}, "network"),
        ({"config.json": '{"architecture": "resnet18"}'}, "timm"),
        ({"config.json": "{}", "program.json": "{}"}, "packed"),
        ({"args.yaml": "", "last/config.json": "{}"}, "run"),
        ({"args.yaml": "", "best/config.json": "{}"}, "run"),
        ({"args.yaml": ""}, None),
    ],
    ids=str,
)
def test_folder_kinds(tmp_path: Path, files: dict[str, str], kind: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert folder_kind(tmp_path) == kind


def test_what_is_no_folder_has_no_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_kind(tmp_path / "file") is None
    assert folder_kind(tmp_path / "nothing") is None


def test_best_of_a_run_is_taken_before_last(tmp_path: Path, network: Network) -> None:
    run = tmp_path / "run"
    save_folder(network, run / "last")
    (run / "args.yaml").write_text("")
    assert network_folder(run) == run / "last"
    save_folder(network, run / "best")
    assert network_folder(run) == run / "best"
    assert network_folder(run / "last") == run / "last"
    with pytest.raises(
        SourceError, match="expected a network or run folder of irbin's, found neither"
    ):
        network_folder(tmp_path)


def converted(spec: str, **options: object) -> Network:
    network = load_source(spec, TINY)
    plan = make_plan(trace(network.module, (3, 32, 32)), PlanOptions(**options))
    return rewrite(network, plan)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"shortcut": "bireal"}, {"activation": "prelu"}], ids=str)
def test_converted_folder_gives_the_same_network(tmp_path: Path, options: dict[str, str]) -> None:
    torch.manual_seed(0)
    network = converted("paper:resnet20", **options)
    phase_of(network.module).set_progress(0.5)
    save_folder(network, tmp_path / "out")
    loaded = load_folder(tmp_path / "out")
    assert same_weights(loaded.module, network.module)
    assert loaded.plan == network.plan
    assert loaded.source == network.source
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.module.eval()(x), network.module.eval()(x))
    assert torch.equal(phase_of(loaded.module).t, phase_of(network.module).t)


@pytest.mark.slow
def test_converted_file_alone_is_refused_with_advice(tmp_path: Path) -> None:
    save_folder(converted("paper:resnet20"), tmp_path / "out")
    options = SourceOptions(model="paper:resnet20", num_classes=3)
    with pytest.raises(SourceError, match="belongs to a converted network: give its folder"):
        load_source(str(tmp_path / "out" / "model.safetensors"), options)


def test_others_may_read_what_was_written(network: Network, tmp_path: Path) -> None:
    save_folder(network, tmp_path / "out")
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    modes = {f.stat().st_mode for f in (tmp_path / "out").iterdir()}
    assert modes == {ordinary.stat().st_mode}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="of Windows")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
    ],
    ids=["a pipe", "a folder", "a link to nowhere", "a link to itself", "an endless device"],
)
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path, network, name, make) -> None:
    save_folder(network, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    make(tmp_path / "out" / name)
    with pytest.raises(SourceError, match=r"^`.*out.*expected a (folder|checkpoint)") as raised:
        irbin.open_network(tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_names_that_stand_twice_are_told(tmp_path: Path, network) -> None:
    save_folder(network, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    data, config = file.read_bytes(), tmp_path / "out" / "config.json"
    end = 8 + int.from_bytes(data[:8], "little")
    entry = json.dumps({"linear.bias": json.loads(data[8:end])["linear.bias"]}).encode()[1:]
    header = data[8:end].rstrip()[:-1] + b"," + entry
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    with pytest.raises(SourceError, match=r"\(expected each key once, got 'linear.bias' twice"):
        irbin.open_network(tmp_path / "out")
    file.write_bytes(data)
    config.write_text(config.read_text().replace("{", '{"architecture": "vgg11",', 1))
    with pytest.raises(SourceError, match=r"config.json`: .*\(expected each key once, got 'arch"):
        irbin.open_network(tmp_path / "out")
