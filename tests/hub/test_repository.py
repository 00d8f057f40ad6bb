"""Packed and network folders on the hub, by a stand-in on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import irbin
from irbin.errors import SourceError
from irbin.hub.repository import folder_of, is_on_hub, located
from irbin.runtime.model import PackedModel
from irbin.sources.by_name import reopen
from irbin.sources.opened import open_answering, size_bytes
from tests.hub.conftest import FLOAT, PACKED


def test_what_is_written_as_a_repository_is_one() -> None:
    assert is_on_hub("hf-hub:me/net")
    assert is_on_hub(Path("hf_hub:me/net@v1"))
    assert not is_on_hub("me/net")
    assert not is_on_hub(None)
    assert located("somewhere") == Path("somewhere")


def test_a_packed_repository_runs_as_its_folder_does(hub) -> None:
    hub.has(PACKED, "me/net")
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    there, here = irbin.load("hf-hub:me/net"), irbin.load(PACKED)
    np.testing.assert_array_equal(there(images), here(images))
    model = open_answering("hf_hub:me/net")
    assert isinstance(model, PackedModel)
    assert size_bytes("hf-hub:me/net", model) == size_bytes(PACKED, model)
    with pytest.raises(SourceError, match="`hf-hub:me/net` is a packed folder, which cannot be"):
        irbin.plan("hf-hub:me/net")


def test_the_hub_is_asked_once(hub) -> None:
    hub.has(PACKED, "me/net")
    for _ in range(3):
        assert (folder_of("hf-hub:me/net") or Path()).is_dir()
    assert hub.asked == ["config.json", "snapshot"]


def test_a_revision_is_another_folder(hub) -> None:
    hub.has(PACKED, "me/net")
    hub.has(FLOAT, "me/net@v1")
    assert (located("hf-hub:me/net") / "program.json").is_file()
    assert (located("hf-hub:me/net@v1") / "model.safetensors").is_file()


def test_a_network_is_opened_planned_and_opened_again_as_a_teacher(hub) -> None:
    hub.has(FLOAT, "me/float")
    network = irbin.open_network("hf-hub:me/float")
    assert network.source.spec == "hf-hub:me/float"
    assert network.source.trained
    assert irbin.plan("hf-hub:me/float").binary_names
    assert reopen(network.source).source == network.source


def test_nothing_is_fetched_but_what_is_read(hub) -> None:
    place = hub.has(FLOAT, "me/float")
    for name in ("pytorch_model.bin", "model.pth", "evil.py", "training.safetensors"):
        (place / name).write_bytes(b"not to be fetched")
    names = {file.name for file in located("hf-hub:me/float").iterdir()}
    assert names == {"config.json", "model.safetensors"}


def test_code_that_a_repository_names_is_not_imported(hub) -> None:
    place = hub.has(FLOAT, "me/float")
    config = json.loads((place / "config.json").read_text("utf-8"))
    config["irbin"]["source"]["architecture"] = "module:os:system"
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=r"is built by code that it names \(`module:os:system`\)"):
        irbin.open_network("hf-hub:me/float")
    assert hub.asked == ["config.json"]


@pytest.mark.parametrize(
    "config", ["{}", "[]", '{"architecture": "resnet18"}', '{"irbin": 1}', "x"]
)
def test_what_is_not_irbins_is_left_to_timm(hub, config: str) -> None:
    place = hub.root / "me/timms"
    place.mkdir(parents=True)
    (place / "config.json").write_text(config)
    assert folder_of("hf-hub:me/timms") is None
    assert located("hf-hub:me/timms") == Path("hf-hub:me/timms")
    assert folder_of("hf-hub:me/none") is None


def test_a_file_that_is_missing_is_named(hub) -> None:
    (hub.has(PACKED, "me/net") / "program.json").unlink()
    with pytest.raises(SourceError, match=r"found no `program\.json`; push it again") as told:
        irbin.load("hf-hub:me/net")
    assert "\n" not in str(told.value)


def test_out_of_reach_is_one_line(hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    hub.unreachable = True
    with pytest.raises(SourceError, match="`hf-hub:me/net` cannot be fetched: looked for") as told:
        irbin.open_network("hf-hub:me/net")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("reset"), "cannot be fetched: looked for `me/net` on the Hugging Face hub"),
        (RuntimeError("odd\nthing"), "cannot be fetched: RuntimeError"),
    ],
)
def test_a_connection_lost_between_files_is_one_line(
    hub, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(**_: object) -> str:
        raise error

    hub.has(PACKED, "me/net")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(SourceError, match=message) as told:
        irbin.load("hf-hub:me/net")
    assert "\n" not in str(told.value)
