"""irbin: a pretrained PyTorch classifier in, a 1-bit IR-Net one out.

    plan → convert → finetune → evaluate → export → load

The public names are imported when first used, so that `import irbin` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irbin.benchmarks import benchmark as benchmark
    from irbin.errors import IrbinError as IrbinError
    from irbin.estimation import estimate as estimate
    from irbin.records import DataOptions as DataOptions
    from irbin.records import SourceOptions as SourceOptions
    from irbin.runtime.model import load as load
    from irbin.runtime.threads import set_num_threads as set_num_threads
    from irbin.sensitivity import analyze as analyze
    from irbin.sources import open_network as open_network
    from irbin.verbs import compare as compare
    from irbin.verbs import convert as convert
    from irbin.verbs import evaluate as evaluate
    from irbin.verbs import export as export
    from irbin.verbs import finetune as finetune
    from irbin.verbs import plan as plan

__version__ = "0.1.0"

_HOME = {
    "DataOptions": "irbin.records",
    "IrbinError": "irbin.errors",
    "SourceOptions": "irbin.records",
    "analyze": "irbin.sensitivity",
    "benchmark": "irbin.benchmarks",
    "compare": "irbin.verbs",
    "convert": "irbin.verbs",
    "estimate": "irbin.estimation",
    "evaluate": "irbin.verbs",
    "export": "irbin.verbs",
    "finetune": "irbin.verbs",
    "load": "irbin.runtime.model",
    "open_network": "irbin.sources",
    "plan": "irbin.verbs",
    "set_num_threads": "irbin.runtime.threads",
}

__all__ = [
    "DataOptions",
    "IrbinError",
    "SourceOptions",
    "__version__",
    "analyze",
    "benchmark",
    "compare",
    "convert",
    "estimate",
    "evaluate",
    "export",
    "finetune",
    "load",
    "open_network",
    "plan",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'irbin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
