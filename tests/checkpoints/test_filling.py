"""Real networks saved in foreign forms, loaded, and run: the logits are those of the network."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from irbin.checkpoints.checkpoint import Checkpoint
from irbin.checkpoints.filling import Target, fill
from irbin.checkpoints.wrapping import PLAIN
from irbin.errors import SourceError
from irbin.records.json import from_json, to_json
from irbin.records.options import SourceOptions, SourceRecord
from irbin.sources.by_name import open_network
from irbin.sources.spec import build, load_source, reload

N = 4
"""Classes of the files."""

SPECS = ["test_resnet", "test_vit", "torchvision:squeezenet1_1"]


def network(spec: str) -> nn.Module:
    torch.manual_seed(0)
    name = spec.removeprefix("torchvision:")
    if name != spec:
        return torchvision.models.get_model(name, num_classes=N).eval()
    return timm.create_model(spec, num_classes=N).eval()


def same_logits(a: nn.Module, b: nn.Module, channels: int = 3) -> bool:
    side = 160 if hasattr(a, "patch_embed") else 64
    x = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(a.eval()(x), b.eval()(x))


def loaded(path: Path, content: Any = None, **options: Any) -> Any:
    if content is not None:
        torch.save(content, path)
    return load_source(str(path), SourceOptions(**options))


def said(network: Any, path: Path) -> list[str]:
    """The notes without the path that each begins with."""
    assert all(note.startswith(f"`{path}`: ") for note in network.notes)
    return [note.removeprefix(f"`{path}`: ") for note in network.notes]


FORMS = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {f"module.{n}": t for n, t in s.items()},
    "backbone": lambda s: {f"backbone.{n}": t for n, t in s.items()},
    "Lightning": lambda s: {
        "state_dict": {f"net.{n}": t for n, t in s.items()} | {"criterion.weight": torch.ones(N)},
        "pytorch-lightning_version": "2.1.0",
        "optimizer_states": [],
        "hyper_parameters": {"lr": 1},
    },
    "nested": lambda s: {"checkpoint": {"model": {"state_dict": s}, "epoch": 3}},
    "DINO": lambda s: {
        "student": {f"module.backbone.{n}": torch.zeros_like(t) for n, t in s.items()},
        "teacher": {f"backbone.{n}": t for n, t in s.items()} | {"head.0.weight": torch.ones(2)},
    },
    "MoCo": lambda s: {
        "state_dict": {f"module.encoder_k.{n}": t * 0 for n, t in s.items()}
        | {f"module.encoder_q.{n}": t for n, t in s.items()}
    },
    "averaged": lambda s: {
        "model": {n: t * 0 for n, t in s.items()},
        "ema": {"module": s, "decay": 0.999},
    },
}
CHOICES: dict[str, dict[str, Any]] = {
    "DINO": {"state_key": "teacher"},
    "MoCo": {"state_key": "encoder_q"},
    "averaged": {"use_ema": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spec", SPECS)
def test_foreign_forms_give_the_same_logits(tmp_path: Path, spec: str, form: str) -> None:
    model, path = network(spec), tmp_path / "a.pth"
    choice = CHOICES.get(form, {})
    found = loaded(path, FORMS[form](model.state_dict()), model=spec, num_classes=N, **choice)
    assert same_logits(found.module, model)
    assert found.source.trained
    stored = from_json(SourceRecord, to_json(found.source), "x")
    assert same_logits(reload(stored).module, model)


@pytest.mark.slow
def test_only_what_was_taken_for_granted_is_said(tmp_path: Path) -> None:
    state, path = network("resnet10t").state_dict(), tmp_path / "a.pth"
    for form, expected in {
        "plain": [],
        "DataParallel": [],
        "nested": [],
        "averaged": [],
        "backbone": ["86 of 86 tensors matched after removing the prefix `backbone.`"],
        "Lightning": [
            "86 of 86 tensors matched after removing the prefix `net.`; 1 left unused: "
            "`criterion.weight`"
        ],
    }.items():
        choice = CHOICES.get(form, {})
        found = loaded(path, FORMS[form](state), model="resnet10t", num_classes=N, **choice)
        assert said(found, path) == expected, form


@pytest.mark.slow
@settings(max_examples=20)
@given(
    prefix=st.lists(st.sampled_from(["model", "net", "x_1", "module"]), max_size=3),
    wrappers=st.lists(st.sampled_from(PLAIN), max_size=3),
)
def test_any_prefix_in_any_wrapping(
    tmp_path_factory: pytest.TempPathFactory, prefix: list[str], wrappers: list[str]
) -> None:
    model = network("test_resnet")
    content: Any = {".".join([*prefix, n]): t for n, t in model.state_dict().items()}
    for key in wrappers:
        content = {key: content, "epoch": 1}
    path = tmp_path_factory.mktemp("wrapped") / "a.pth"
    found = loaded(path, content, model="test_resnet", num_classes=N)
    assert same_logits(found.module, model)


def other_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"layers.{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(state.items())}


@pytest.mark.parametrize("spec", SPECS)
def test_remap_takes_other_names_in_the_same_order(tmp_path: Path, spec: str) -> None:
    model, path = network(spec), tmp_path / "a.pth"
    content = other_names(model.state_dict())
    with pytest.raises(SourceError, match=r"same shapes in the same order: give `remap=True`$"):
        loaded(path, content, model=spec, num_classes=N)
    found = loaded(path, content, model=spec, num_classes=N, remap=True)
    assert same_logits(found.module, model)
    (note,) = said(found, path)
    assert " tensors matched by their order (`layers.0." in note
    assert found.source.remap
    assert same_logits(reload(found.source).module, model)


def test_remap_prefers_names_where_they_fit(tmp_path: Path) -> None:
    model = network("test_resnet")
    shuffled = dict(reversed(list(model.state_dict().items())))
    found = loaded(tmp_path / "a.pth", shuffled, model="test_resnet", num_classes=N, remap=True)
    assert same_logits(found.module, model)
    assert found.notes == ()


def test_remap_needs_an_order(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(other_names(network("test_resnet").state_dict()), path)
    message = (
        f"`{path}`: `remap=True` needs tensors in the order in which they were saved, which "
        "safetensors and indices of shards do not keep; save the state dict with `torch.save`"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        loaded(path, model="test_resnet", num_classes=N, remap=True)
    with pytest.raises(SourceError, match="wrong `model=`, or another class count"):
        loaded(path, model="test_resnet", num_classes=N)  # no advice that would be refused


def test_order_by_chance_is_no_advice() -> None:
    model = network("test_resnet")
    target = Target(model, N, 3, build=lambda *_: model)
    file = Checkpoint(other_names(model.state_dict()), is_ordered=False)
    with pytest.raises(SourceError, match="wrong `model=`, or another class count"):
        fill(target, file, "`x`")


def test_remap_goes_together_with_another_head(tmp_path: Path) -> None:
    content = other_names(network("test_resnet").state_dict())
    found = loaded(tmp_path / "a.pth", content, model="test_resnet", num_classes=7, remap=True)
    assert found.module.num_classes == 7
    assert len(found.notes) == 2


HEADS = {
    "resnet10t": ["fc.weight", "fc.bias"],
    "test_vit": ["head.weight", "head.bias"],
    "test_efficientnet": ["classifier.weight", "classifier.bias"],
    "test_convnext": ["head.fc.weight", "head.fc.bias"],
    "test_byobnet": ["head.fc.weight", "head.fc.bias"],
    "torchvision:squeezenet1_1": ["classifier.1.weight", "classifier.1.bias"],
    "paper:resnet20": ["linear.weight", "linear.bias"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "head"), HEADS.items(), ids=HEADS.keys())
def test_another_class_count_gives_a_new_head(tmp_path: Path, spec: str, head: list[str]) -> None:
    torch.manual_seed(0)
    state = load_source(spec, SourceOptions(pretrained=False, num_classes=N)).module.state_dict()
    path = tmp_path / "a.pth"
    found = loaded(path, state, model=spec, num_classes=7)
    names = ", ".join(f"`{name}`" for name in head)
    assert said(found, path) == [
        f"{names} re-initialised at random for 7 classes, the file has {N}; train them"
    ]
    assert found.source.num_classes == 7
    assert not found.source.trained  # a random head teaches nothing
    own = found.module.state_dict()
    assert {n for n in own if not torch.equal(own[n], state[n])} == set(head)


def test_several_heads_are_all_new(tmp_path: Path) -> None:
    name, path = "deit_tiny_distilled_patch16_224", tmp_path / "a.pth"
    small = {"depth": 1, "embed_dim": 24}
    state = timm.create_model(name, num_classes=N, **small).state_dict()
    found = loaded(path, state, model=name, num_classes=7, model_kwargs=small)
    assert said(found, path) == [
        "`head.weight`, `head.bias`, `head_dist.weight` and 1 more re-initialised at random for 7 "
        f"classes, the file has {N}; train them"
    ]


def test_a_head_that_is_half_there_is_not_replaced(tmp_path: Path) -> None:
    name, path = "deit_tiny_distilled_patch16_224", tmp_path / "a.pth"
    small = {"depth": 1, "embed_dim": 24}
    state = timm.create_model(name, num_classes=N, **small).state_dict()
    half = {n: t for n, t in state.items() if not n.startswith("head_dist")}
    message = rf"has a head for {N} classes in `head\.weight`.* does not fit `head_dist\.weight`"
    with pytest.raises(SourceError, match=message):
        loaded(path, half, model=name, num_classes=N, model_kwargs=small)


@pytest.mark.slow
def test_another_class_count_has_to_be_asked_for(tmp_path: Path) -> None:
    state = network("resnet10t").state_dict()
    with pytest.raises(SourceError, match=r"\(1000,\); it may have 4 classes: give `num_class"):
        loaded(tmp_path / "a.pth", state, model="resnet10t")
    prefixed = {f"net.{n}": t for n, t in state.items()}
    with pytest.raises(SourceError, match="it may have 4 classes"):
        loaded(tmp_path / "a.pth", prefixed, model="resnet10t")


@pytest.mark.slow
def test_a_training_checkpoint_may_get_another_head(tmp_path: Path) -> None:
    content = {
        "arch": "resnet10t",
        "args": {"num_classes": N, "img_size": 64},
        "state_dict": network("resnet10t").state_dict(),
    }
    found = loaded(tmp_path / "a.pth", content, num_classes=7)
    assert found.source.num_classes == 7
    assert found.source.preprocessing.input_size == (3, 64, 64)
    assert loaded(tmp_path / "a.pth").notes == ()


@pytest.mark.slow
def test_only_the_head_may_differ(tmp_path: Path) -> None:
    state = network("resnet10t").state_dict()
    other_width = {**state, "layer1.0.bn1.bias": torch.ones(9)}
    with pytest.raises(SourceError, match=r"`layer1.0.bn1.bias` \(9,\) instead of \(64,\)"):
        loaded(tmp_path / "a.pth", other_width, model="resnet10t", num_classes=7)
    other_features = {**state, "fc.weight": torch.ones(N, 99)}
    with pytest.raises(SourceError, match=r"`fc.weight` \(4, 99\) instead of \(7, 512\)"):
        loaded(tmp_path / "a.pth", other_features, model="resnet10t", num_classes=7)
    del state["layer1.0.bn1.bias"]
    with pytest.raises(SourceError, match=r"missing `layer1.0.bn1.bias`"):
        loaded(tmp_path / "a.pth", state, model="resnet10t", num_classes=7)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_backbone_without_a_head(tmp_path: Path, prefix: str) -> None:
    model, path = network("resnet10t"), tmp_path / "a.pth"
    content = {prefix + n: t for n, t in model.state_dict().items()}
    bare = loaded(path, content, model="resnet10t", num_classes=0)
    model.reset_classifier(0)
    assert same_logits(bare.module, model)
    assert (bare.source.num_classes, bare.source.trained) == (0, True)
    assert said(bare, path)[0].endswith(f"2 left unused: `{prefix}fc.weight`, `{prefix}fc.bias`")
    assert same_logits(reload(bare.source).module, model)
    headless = {n: t for n, t in content.items() if ".fc." not in f".{n}"}
    new = loaded(path, headless, model="resnet10t", num_classes=7)
    assert said(new, path)[-1] == (
        "`fc.weight`, `fc.bias` re-initialised at random for 7 classes, the file has no such head; "
        "train them"
    )
    with pytest.raises(SourceError, match=r"missing `fc.weight`, `fc.bias`"):
        loaded(path, headless, model="resnet10t")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("spec", "stem"),
    [
        ("resnet10t", "conv1.0"),
        ("test_vit", "patch_embed.proj"),
        ("paper:resnet20", "conv1"),
        ("torchvision:squeezenet1_1", "features.0"),
    ],
)
def test_other_channels_adapt_the_first_convolution(
    tmp_path: Path, spec: str, stem: str, channels: int
) -> None:
    torch.manual_seed(0)
    options = SourceOptions(pretrained=False, num_classes=N)
    state, path = load_source(spec, options).module.state_dict(), tmp_path / "a.pth"
    found = loaded(path, state, model=spec, num_classes=N, in_chans=channels)
    assert said(found, path) == [
        f"`{stem}.weight` adapted from 3 to {channels} image channels, as timm does"
    ]
    own = found.module.state_dict()
    adapted = adapt_input_conv(channels, state[f"{stem}.weight"])
    assert torch.equal(own[f"{stem}.weight"], adapted)
    assert all(torch.equal(own[n], state[n]) for n in own if n != f"{stem}.weight")
    assert found.source.trained
    assert same_logits(reload(found.source).module, found.module, channels)
    assert build(found.source).state_dict()[f"{stem}.weight"].shape == adapted.shape


@pytest.mark.slow
def test_gray_weights_for_colour_images(tmp_path: Path) -> None:
    model, path = timm.create_model("resnet10t", num_classes=N, in_chans=1), tmp_path / "a.pth"
    found = loaded(path, model.state_dict(), model="resnet10t", num_classes=N, in_chans=3)
    assert said(found, path) == [
        "`conv1.0.weight` adapted from 1 to 3 image channels, as timm does"
    ]
    gray = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        expected = model.eval()(gray)
        torch.testing.assert_close(found.module.eval()(gray.expand(-1, 3, -1, -1)), expected)


def test_other_channels_have_to_be_asked_for(tmp_path: Path) -> None:
    state = timm.create_model("resnet10t", num_classes=N, in_chans=1).state_dict()
    with pytest.raises(SourceError, match=r"`conv1.0.weight` \(24, 1, 3, 3\) instead of"):
        loaded(tmp_path / "a.pth", state, model="resnet10t", num_classes=N)


@pytest.mark.slow
def test_torchvisions_resnet18_under_a_prefix(tmp_path: Path) -> None:
    spec = "torchvision:resnet18"
    model = network(spec)
    content = FORMS["backbone"](model.state_dict())
    found = loaded(tmp_path / "a.pth", content, model=spec, num_classes=N)
    assert same_logits(found.module, model)


@pytest.mark.slow
def test_auxiliary_heads_under_a_prefix_are_left_out(tmp_path: Path) -> None:
    name = "torchvision:googlenet"
    with_heads = torchvision.models.get_model(
        name.removeprefix("torchvision:"), num_classes=N, init_weights=False
    )
    content = {f"net.{n}": t for n, t in with_heads.state_dict().items()}
    found = loaded(tmp_path / "a.pth", content, model=name, num_classes=N, in_chans=1)
    assert any("prefix `net.`" in note for note in found.notes)
    assert found.source.preprocessing.mean == (0.5,)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_floats_are_computed_in_float32(
    tmp_path: Path, kind: torch.dtype, suffix: str
) -> None:
    model, path = network("test_resnet"), tmp_path / f"a{suffix}"
    state = {n: t.to(kind) if t.is_floating_point() else t for n, t in model.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found = loaded(path, model="test_resnet", num_classes=N)
    name = str(kind).removeprefix("torch.")
    assert said(found, path) == [f"weights are {name}, computed in float32"]
    model.load_state_dict({n: t.float() for n, t in state.items()})
    assert {p.dtype for p in found.module.parameters()} == {torch.float32}
    assert same_logits(found.module, model)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    state = {n: (9 * t).to(torch.int8) for n, t in network("test_resnet").state_dict().items()}
    message = (
        f"`{path}`: expected floating-point numbers in `conv1.0.weight`, got int8; use the "
        "checkpoint from before quantization"
    )
    with pytest.raises(SourceError, match=f"^{re.escape(message)}$"):
        loaded(path, state, model="test_resnet", num_classes=N)


def sharded(folder: Path, state: dict[str, Tensor]) -> Path:
    names = list(state)
    place = {n: f"model-{1 + (i % 2)}-of-2.safetensors" for i, n in enumerate(names)}
    for shard in set(place.values()):
        save_file({n: state[n] for n in names if place[n] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": place}))
    return index


def test_shards_by_their_index_or_their_folder(tmp_path: Path) -> None:
    model = network("test_resnet")
    index = sharded(tmp_path, model.state_dict())
    options = SourceOptions(model="test_resnet", num_classes=N)
    for spec in (index, tmp_path):
        found = open_network(str(spec), options)
        assert same_logits(found.module, model)
        assert found.source.spec == str(index)
        assert same_logits(reload(found.source).module, model)


def test_shards_in_a_folder_of_timm(tmp_path: Path) -> None:
    model = network("test_resnet")
    config = {"num_classes": N}
    timm.models.save_for_hf(model, str(tmp_path), model_config=config, safe_serialization=True)
    (tmp_path / "model.safetensors").unlink()
    state = {n: t.bfloat16() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    index = sharded(tmp_path, state)
    for spec in (str(tmp_path), f"local-dir:{tmp_path}"):
        found = open_network(spec, SourceOptions())
        assert found.notes == (f"`{index}`: weights are bfloat16, computed in float32",)
    model.load_state_dict({n: t.float() for n, t in state.items()})
    assert same_logits(found.module, model)


def test_notes_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = FORMS["backbone"](network("test_resnet").state_dict())
    found = loaded(tmp_path / "a.pth", content, model="test_resnet", num_classes=N)
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("irbin", "WARNING", note) for note in found.notes
    ]
    caplog.clear()
    reload(found.source)  # was said when it was opened
    assert not caplog.records


def test_names_say_so_too(tmp_path: Path) -> None:
    model = network("test_resnet")
    timm.models.save_for_hf(
        model, str(tmp_path), model_config={"num_classes": N}, safe_serialization=True
    )
    found = load_source(f"local-dir:{tmp_path}", SourceOptions(num_classes=7, in_chans=1))
    assert found.notes == (
        f"`{tmp_path}`: its classifier re-initialised at random for 7 classes, the file has {N}; "
        "train it",
        f"`{tmp_path}`: its first convolution adapted from 3 to 1 image channels, as timm does",
    )
    assert not found.source.trained
    bare = load_source(f"local-dir:{tmp_path}", SourceOptions(num_classes=0))
    assert (bare.notes, bare.source.trained) == ((), True)
