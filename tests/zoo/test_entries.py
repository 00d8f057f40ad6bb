"""Every entry that comes with irbin is what its record says, and its commands can be typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import irbin
from docs.maintain.zookeeper.add import text
from docs.maintain.zookeeper.page import page
from irbin.artifact.schema import FILES
from irbin.cli.recipe_options import RecipeFlags
from irbin.errors import ArtifactError, SourceError, UsageError
from irbin.kernels import native
from irbin.recipes.file import read_recipe
from irbin.recipes.request import load_recipe, recipe_of, resolve_recipe
from irbin.records.json import to_json
from irbin.records.options import DataOptions, SourceOptions
from irbin.records.zoo import ZooRecord, ZooRun
from irbin.runtime.model import PackedModel
from irbin.sources.by_name import reopen
from irbin.sources.opened import open_any, open_network, param_count, size_bytes
from irbin.zoo import entries
from tests.conftest import as_typed

NAMES = entries.entry_names()
RECORDS = {name: entries.read_record(name) for name in NAMES}
PACKED = [name for name in NAMES if RECORDS[name].bits is not None]
FLOAT = [name for name in NAMES if RECORDS[name].bits is None]
each = pytest.mark.parametrize("name", NAMES)


def test_the_zoo_holds_both_kinds() -> None:
    assert "resnet20-cifar10-1w1a" in PACKED
    assert "resnet20-cifar10-float" in FLOAT


def test_every_folder_is_an_entry() -> None:
    folders = (path.name for path in entries.ROOT.iterdir() if path.is_dir())
    assert sorted(name for name in folders if name != "__pycache__") == list(NAMES)


def test_the_page_is_what_the_zookeeper_makes() -> None:
    assert (entries.ROOT / "README.md").read_text() == page(entries.all_records())


@each
def test_a_record_is_as_the_zookeeper_writes_it(name: str) -> None:
    written = (entries.ROOT / name / entries.RECORD_FILE).read_text()
    assert written == text(RECORDS[name])
    assert RECORDS[name].name == name


def tensor_bytes(file: Path) -> int:
    with safe_open(file, "pt") as opened:
        return sum(opened.get_tensor(key).nbytes for key in opened.keys())  # noqa: SIM118


@each
def test_sizes_are_those_on_the_disk(name: str) -> None:
    record, folder = RECORDS[name], entries.ROOT / name
    files = FILES if record.bits else ("model.safetensors",)
    assert record.size_bytes == sum((folder / file).stat().st_size for file in files)
    (tensors,) = folder.glob("*.safetensors")
    assert record.tensor_bytes == tensor_bytes(tensors)
    spec = f"zoo:{name}"
    assert size_bytes(spec, open_any(spec)) == record.size_bytes


@each
def test_entries_are_safe_and_small(name: str) -> None:
    """No pickles, and few enough bytes for a wheel."""
    files = list((entries.ROOT / name).iterdir())
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert sum(file.stat().st_size for file in files) < 3_000_000


@each
def test_an_entry_names_no_path_of_a_machine(name: str) -> None:
    for file in (entries.ROOT / name).glob("*.json"):
        assert not re.findall(r'(?:["\s=:]|\\\\)(?:/|~|[A-Za-z]:\\)\w[^"\s]*', file.read_text())


@each
def test_what_was_opened_agrees_with_the_record(name: str) -> None:
    record, network = RECORDS[name], open_any(f"zoo:{name}")
    if isinstance(network, PackedModel):
        source, plan = network.manifest.source, network.manifest.plan
        assert (plan.options.bits, plan.float_bytes) == (record.bits, record.float_bytes)
    else:
        source = network.source
        assert network.plan is None
        assert 4 * param_count(network) == record.float_bytes
        assert source.trained
        assert source.spec == f"zoo:{name}"
    assert source.architecture == record.network
    assert source.class_names is not None
    assert len(source.class_names) == source.num_classes


@each
def test_figures_hang_together(name: str) -> None:
    record = RECORDS[name]
    last = record.runs[-1]
    assert record.n_images == 10_000
    assert 0 < record.top1 <= record.top5 <= 100
    assert (record.teacher is None) == (record.teacher_top1 is None)
    assert 1 <= record.kept_epoch <= last.epochs
    for run in record.runs:
        lengths = {len(values) for values in vars(run.curve).values()}
        assert len(lengths) == 1
        assert run.curve.epoch[-1] == run.epochs
    if record.kept == "best":
        top1 = dict(zip(last.curve.epoch, last.curve.top1, strict=True))
        assert top1[record.kept_epoch] == max(top1.values())
    assert record.hours == pytest.approx(sum(run.seconds for run in record.runs) / 3600)


@each
def test_a_teacher_of_the_zoo_is_there_and_has_that_accuracy(name: str) -> None:
    teacher = RECORDS[name].teacher
    if entries.is_entry(teacher):
        assert entries.read_record(str(teacher)).top1 == RECORDS[name].teacher_top1


RUNS = [(name, run) for name in NAMES for run in RECORDS[name].runs]


@pytest.mark.parametrize(("name", "run"), RUNS, ids=lambda value: str(value)[:30])
def test_commands_can_be_typed_today_and_give_the_knobs(name: str, run: ZooRun) -> None:
    """Where a recipe has changed since, make the entry again: its commands add what differs."""
    *before, (command, given) = [as_typed(line) for line in run.commands]
    assert command == "finetune"
    assert [word for word, _ in before] == ["convert"] * len(before)
    for _, conversion in before:
        assert given["source"] == str(conversion["out"])
    turned = RecipeFlags(**{f.name: given[f.name] for f in fields(RecipeFlags)}).overrides()
    today = asdict(resolve_recipe(given["recipe"], turned, RECORDS[name].bits is not None))
    ran = asdict(recipe_of(load_recipe("default") | run.knobs))
    decided = {"amp", "channels_last", "compile"}
    assert {k: (today[k], ran[k]) for k in ran if today[k] != ran[k] and k not in decided} == {}
    assert given["seed"] in (None, run.seed)
    assert (
        read_recipe(given["recipe"]).batched(DataOptions(batch_size=given["batch_size"])).batch_size
        == run.data["batch_size"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_a_packed_entry_runs_as_the_reference_does(name: str) -> None:
    model = irbin.load(f"zoo:{name}")
    images = torch.randn(
        4,
        *model.manifest.source.preprocessing.input_size,
        generator=torch.Generator().manual_seed(0),
    )
    logits = model(images)
    assert logits.shape == (4, model.manifest.source.num_classes)
    plain: list[torch.Tensor] = []
    assert torch.equal(model.run(images, lambda node, value: plain.append(value)), logits)
    assert plain
    with native.using("reference"):
        reference = irbin.load(f"zoo:{name}")(images)
    torch.testing.assert_close(logits, reference, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.argmax(1), reference.argmax(1))


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_entry_can_be_opened_again_from_its_record(name: str) -> None:
    network = open_network(f"zoo:{name}")
    again = reopen(network.source)
    assert again.source == network.source
    state = network.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.module.state_dict().items())
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOAT)
def test_a_float_entry_is_converted_and_remembered(name: str, tmp_path: Path) -> None:
    irbin.convert(f"zoo:{name}", tmp_path / "converted")
    converted = open_network(tmp_path / "converted")
    assert converted.plan is not None
    assert converted.source.spec == f"zoo:{name}"
    assert str(entries.ROOT) not in (tmp_path / "converted" / "config.json").read_text()
    assert reopen(converted.source).plan is None


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_entry_says_everything_itself(name: str) -> None:
    with pytest.raises(UsageError, match=rf"the folder `zoo:{name}` says 10 itself, got 3; leave"):
        open_network(f"zoo:{name}", SourceOptions(num_classes=3))


def test_a_packed_entry_is_no_source_of_training() -> None:
    with pytest.raises(SourceError, match=rf"^`zoo:{PACKED[0]}` is a packed folder, which cannot"):
        open_network(f"zoo:{PACKED[0]}")


def test_a_float_entry_is_nothing_to_load() -> None:
    with pytest.raises(ArtifactError, match=r"expected a packed folder, but it has no `program.js"):
        irbin.load(f"zoo:{FLOAT[0]}")


@pytest.mark.parametrize(
    ("spec", "is_one"),
    [
        ("zoo:a", True),
        ("zoo:", True),
        (Path("zoo:a"), True),
        ("a", False),
        ("ZOO:a", False),
        ("./zoo:a", False),
        (None, False),
        (3, False),
    ],
    ids=str,
)
def test_is_entry(spec: object, is_one: bool) -> None:
    assert entries.is_entry(spec) == is_one


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a", True),
        ("7", True),
        ("a-b-3", True),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("a--b", False),
        ("A", False),
        ("a.partial", False),
        ("a/b", False),
        ("..", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_is_name(text: str, good: bool) -> None:
    assert entries.is_name(text) == good


def test_located() -> None:
    assert entries.located(f"zoo:{NAMES[0]}") == entries.ROOT / NAMES[0]
    assert entries.located("some/where") == Path("some/where")
    assert entries.located("resnet18") == Path("resnet18")


USES: list[Callable[[str], object]] = [
    entries.located,
    entries.read_record,
    irbin.load,
    open_network,
    open_any,
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_an_unknown_name_gets_one_helpful_line(use: Callable[[str], object]) -> None:
    message = (
        "the zoo has no `zoo:resnet20-cifar10-1w1`; nearest: `zoo:resnet20-cifar10-1w1a`, "
        "`zoo:resnet20-cifar10-1w32a`, `zoo:resnet18-cifar10-1w1a`; `irbin zoo` lists all"
    )
    with pytest.raises(SourceError) as caught:
        use("zoo:resnet20-cifar10-1w1")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", "..", "../zoo", "resnet20-cifar10-1w1a/", "x", "__pycache__"])
def test_only_names_of_entries_are_known(name: str) -> None:
    with pytest.raises(SourceError, match=r"^the zoo has no `zoo:.*`irbin zoo` lists all$"):
        entries.located(f"zoo:{name}")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only entry of a zoo of the test's own."""
    monkeypatch.setattr(entries, "ROOT", tmp_path)
    (tmp_path / "small").mkdir()
    return tmp_path / "small"


def test_an_empty_zoo(own: Path) -> None:
    assert entries.entry_names() == ()
    assert entries.all_records() == []
    with pytest.raises(SourceError, match=r"nearest: none, it is empty; `irbin zoo` lists all$"):
        entries.located("zoo:small")


def test_what_is_still_being_written_is_no_entry(own: Path) -> None:
    (own.parent / "small.partial").mkdir()
    for folder in (own, own.parent / "small.partial"):
        (folder / entries.RECORD_FILE).write_text("{}")
    assert entries.entry_names() == ("small",)


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.pop(key)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("top1"), "at `top1`: Field required"),
        (lambda v: v.update(bits="2w2a"), "at `bits`: Input should be '1w1a' or '1w32a'"),
        (lambda v: v.update(top1="good"), "at `top1`: Input should be a valid number"),
        (lambda v: v.update(runs=[]), "expected at least one run, got none"),
        (lambda v: v["runs"][0].pop("curve"), "at `runs.0.curve`: Field required"),
    ],
    ids=["missing", "no such bits", "no number", "no runs", "inside"],
)
def test_a_damaged_record(
    own: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    value = to_json(RECORDS[NAMES[0]])
    damage(value)
    (own / entries.RECORD_FILE).write_text(json.dumps(value))
    with pytest.raises(SourceError, match=r"^expected the record of an entry, got: ") as caught:
        entries.read_record("small")
    assert message in str(caught.value)
    assert "record.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"], ids=str)
def test_a_record_that_is_none(own: Path, content: bytes) -> None:
    (own / entries.RECORD_FILE).write_bytes(content)
    with pytest.raises(SourceError, match=r"^expected the record of an entry, got: .*record.json"):
        entries.read_record("zoo:small")


def test_a_record_of_a_later_irbin_is_read(own: Path) -> None:
    value = {**to_json(RECORDS[NAMES[0]]), "something": "new"}
    (own / entries.RECORD_FILE).write_text(json.dumps(value))
    assert isinstance(entries.read_record("small"), ZooRecord)


def test_names_and_records_need_no_torch() -> None:
    code = (
        "import sys; from irbin.zoo.entries import all_records; all_records(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
