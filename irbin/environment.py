"""What a bug report needs to know of a machine: no name of a person, a machine or a folder."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from irbin.hardware import processor
from irbin.version import __version__

NEEDED = ("torch", "torchvision", "timm", "safetensors", "numpy", "pillow", "typer", "rich")
OPTIONAL = (
    *("matplotlib", "onnx", "onnxruntime", "openvino", "nncf", "pyarrow", "tensorboard", "wandb"),
    *("webdataset", "datasets"),
)
"""Named where they are installed."""
VARIABLES = (
    *("IRBIN_KERNELS", "IRBIN_LOG_LEVEL", "IRBIN_TRACEBACK", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "HF_HUB_OFFLINE", "COLUMNS"),
)
"""Named where they are set; none holds a secret or a path."""


def environment() -> dict[str, Any]:
    """Versions, processor, kernels, threads, memory, variables that are set; imports torch."""
    facts = {"irbin": __version__, **_system(), **_computing(), **_packages()}
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _system() -> dict[str, Any]:
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()) or None,
        "processor": processor(),
        "encoding": getattr(sys.stdout, "encoding", None),
    }


def _computing() -> dict[str, Any]:
    import torch

    from irbin.data.memory import free_bytes
    from irbin.kernels import native
    from irbin.runtime.threads import kernel_threads, usable_cpus

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processors": f"{usable_cpus()} usable of {os.cpu_count()}",
        "threads": f"{kernel_threads()} of the kernels, {torch.get_num_threads()} of torch",
        "free memory": f"{free_bytes() / 1e9:.1f} GB",
        "kernels": native.in_words(),
        "compiled by": native.compiler() or None,
        "torch's instructions": torch.backends.cpu.get_cpu_capability(),
        "GPU": ", ".join(gpus) or "none",
    }


def _packages() -> dict[str, str]:
    numbers = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    named = {name: number for name, number in numbers.items() if number or name in NEEDED}
    return {name: number or "missing" for name, number in named.items()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
