"""Nothing is sent anywhere: the whole journey where opening a connection is an error."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

import irbin
from irbin import DataOptions, SourceOptions


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of the internet are an error; those between processes of one machine are not."""
    connect = socket.socket.connect

    def refused(*given: Any, **_: Any) -> NoReturn:
        raise AssertionError(f"somebody opens a connection: {given}")

    def checked(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            refused(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)
    monkeypatch.setattr(socket.socket, "connect_ex", checked)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket, "create_connection", refused)


@pytest.mark.usefixtures("_offline")
def test_a_connection_is_an_error() -> None:
    with pytest.raises(AssertionError, match="opens a connection"):
        socket.create_connection(("example.org", 80))
    with pytest.raises(AssertionError, match="opens a connection"), socket.socket() as one:
        one.connect(("127.0.0.1", 9))


@pytest.mark.slow
@pytest.mark.usefixtures("_offline")
def test_the_journey_opens_none(pictures28: Path, tmp_path: Path) -> None:
    options = SourceOptions(pretrained=False, num_classes=3, input_size=(3, 32, 32))
    data = DataOptions(data_dir=str(pictures28), batch_size=8, workers=1)
    assert irbin.plan("resnet10t", source_options=options).binary_names
    converted, run, packed = (tmp_path / name for name in ("converted", "run", "packed"))
    irbin.convert("resnet10t", converted, source_options=options, data=data, calibrate=8)
    irbin.finetune(converted, run, data=data, overrides={"epochs": 1, "distill": False})
    irbin.export(run, packed)
    assert irbin.evaluate(packed, data=data).n_images == 18
    assert len(list(irbin.predict(packed, pictures28 / "val"))) == 18
    irbin.benchmark(packed, n_runs=2, memory=False)
