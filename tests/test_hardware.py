"""What a machine is called, from what its system says."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from irbin import hardware
from irbin.hardware import processor

SERVER = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
LSCPU = "Architecture:   aarch64\nVendor ID:      ARM\n  Model name:   Neoverse-N1\n    Model: 1\n"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The name that is found where the system says this."""

    def tell(cpuinfo: str | None, said: str | None = None, system: str = "linux") -> str:
        def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
            if said is None:
                raise FileNotFoundError(command[0])
            return subprocess.CompletedProcess(command, 0, said, "")

        if cpuinfo is not None:
            (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(hardware.subprocess, "run", run)
        monkeypatch.setattr(hardware.sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        monkeypatch.setattr(platform, "processor", lambda: "")
        return processor()

    return tell


def test_x86_is_called_as_its_model_is(told) -> None:
    text = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n"
    assert told(text) == "Intel(R) Xeon(R) Platinum 8481C"


def test_an_arm_is_called_as_lscpu_calls_its_numbers(told) -> None:
    assert told(SERVER, LSCPU) == "ARM Neoverse-N1"


@pytest.mark.parametrize("said", [None, "", "Architecture: aarch64\nModel name:  -\n"])
def test_an_arm_that_lscpu_does_not_know_is_told_by_its_numbers(told, said) -> None:
    assert told(SERVER, said) == "aarch64 implementer 0x41 part 0xd0c"


def test_a_board_is_named_with_its_processor(told) -> None:
    text = SERVER + "Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    assert told(text, LSCPU) == "Raspberry Pi 4 Model B Rev 1.4 (ARM Neoverse-N1)"


@pytest.mark.parametrize("text", [None, "", "nonsense"])
def test_where_nothing_is_told_the_architecture_is(told, text) -> None:
    assert told(text) == "aarch64"


def test_macos_is_asked_in_its_own_way(told) -> None:
    assert told(None, "Apple M2\n", "darwin") == "Apple M2"
    assert told(None, None, "darwin") == "aarch64"


def test_here_there_is_a_name() -> None:
    assert processor()
