"""The packages of `irbin[onnx]`, imported when asked for."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from irbin.errors import UsageError


def package(name: str, task: str) -> Any:
    """`onnx` or `onnxruntime`.

    Args:
        name: of the module.
        task: what needs it, for the message.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that these import
            return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise UsageError(
            f"{task}: expected the package `{top}` to be installed, got {type(error).__name__}; "
            "run `pip install 'irbin[onnx]'`"
        ) from error
