"""`push`: what is sent, what is refused, and that nobody is asked where nothing is to be sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

import irbin
from irbin.errors import ArtifactError, SourceError, UsageError
from irbin.zoo.entries import located
from tests.hub.conftest import FLOAT, PACKED
from tests.hub.conftest import hub as hub  # a fixture


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    shutil.copytree(located(PACKED), folder)
    (folder / "README.md").write_text("# a card\n")
    (folder / "notes.txt").write_text("private")
    return folder


def test_what_is_pushed_is_a_source(hub, packed: Path) -> None:
    record = irbin.push(packed, "me/net", private=True)
    assert list(record.files) == ["config.json", "program.json", "packed.safetensors", "README.md"]
    assert record.files["README.md"] == 9
    assert hub.made == [("me/net", True)]
    assert {file.name for file in (hub.root / "me/net").iterdir()} == set(record.files)
    images = np.zeros((1, 3, 32, 32), np.float32)
    np.testing.assert_array_equal(irbin.load("hf-hub:me/net")(images), irbin.load(packed)(images))


def test_paths_of_this_machine_stay_here(hub, packed: Path) -> None:
    """And the folder that is pushed stays as it is."""
    config = packed / "config.json"
    manifest = json.loads(config.read_text())
    manifest["source"] |= {"spec": "/home/me/out/float/best", "weights": "C:\\me\\net.pth"}
    kwargs = {"init": ["/home/me/init.npz"], "norm": "layer"}
    manifest["source"]["model_kwargs"] = kwargs
    config.write_text(json.dumps(manifest))
    before = config.read_bytes()
    record = irbin.push(packed, "me/net")
    sent = hub.root / "me/net" / "config.json"
    source = json.loads(sent.read_text())["source"]
    assert (source["spec"], source["weights"]) == ("best", "net.pth")
    assert source["model_kwargs"] == {"init": ["init.npz"], "norm": "layer"}
    assert record.files["config.json"] == sent.stat().st_size
    assert config.read_bytes() == before
    assert irbin.load("hf-hub:me/net").manifest.source.spec == "best"


def test_a_network_folder_goes_with_its_weights(hub) -> None:
    record = irbin.push(FLOAT, "me/float")
    assert list(record.files) == ["config.json", "model.safetensors"]
    assert hub.made == [("me/float", None)]
    assert irbin.open_network("hf-hub:me/float").source.trained


def test_a_dry_run_asks_nobody(monkeypatch: pytest.MonkeyPatch, packed: Path) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)
    monkeypatch.setattr("irbin.pushing.hub_has_address", refuse)
    assert len(irbin.push(packed, "me/net", dry_run=True).files) == 4


@pytest.mark.parametrize(
    "name", ["", "net", "me/", "/net", "a/b/c", "me/n t", "me/né", "hf-hub:a/b"]
)
def test_a_name_that_is_none_is_refused(packed: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"^`repository`: expected OWNER/NAME, got `"):
        irbin.push(packed, name, dry_run=True)


def test_other_folders_are_refused_and_the_right_one_is_named(tmp_path: Path, packed: Path) -> None:
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "args.yaml").write_text("")
    for folder, told in (
        (tmp_path / "none", "which is no folder"),
        (tmp_path, "; give `.*packed`"),
        (run, r"which is a run; give `.*best`"),
        (run / "best", "expected a packed or a network folder, got"),
    ):
        with pytest.raises(UsageError, match=told):
            irbin.push(folder, "me/net", dry_run=True)


def test_what_is_damaged_is_not_sent(tmp_path: Path, packed: Path) -> None:
    (packed / "packed.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="cut short or damaged"):
        irbin.push(packed, "me/net", dry_run=True)
    shutil.copytree(located(FLOAT), tmp_path / "float")
    (tmp_path / "float" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(SourceError, match="cannot be read"):
        irbin.push(tmp_path / "float", "me/net", dry_run=True)
    (tmp_path / "float" / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        irbin.push(tmp_path / "float", "me/net", dry_run=True)


def test_a_refusal_of_the_hub_is_one_line(hub, packed: Path) -> None:
    hub.refuses = RuntimeError("401\nwho are you?")
    with pytest.raises(
        SourceError, match=r"`me/net` cannot be pushed: RuntimeError.*HF_TOKEN"
    ) as e:
        irbin.push(packed, "me/net")
    assert "\n" not in str(e.value)


def test_without_a_way_to_the_hub_it_is_not_tried(hub, monkeypatch, packed: Path) -> None:
    monkeypatch.setattr("irbin.pushing.hub_has_address", lambda: False)
    with pytest.raises(SourceError, match="cannot be pushed: the hub's host has no address here"):
        irbin.push(packed, "me/net")
    assert hub.made == []
