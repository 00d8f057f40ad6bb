"""irbin: a pretrained PyTorch classifier in, a 1-bit IR-Net one out.

    plan → convert → finetune → evaluate → export → load

The public names are imported when first used, so that `import irbin` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irbin.version import __version__

if TYPE_CHECKING:
    from irbin.analysis.analyze import analyze as analyze
    from irbin.bench.inference import benchmark as benchmark
    from irbin.compression.compress import compress as compress
    from irbin.errors import IrbinError as IrbinError
    from irbin.planning.estimate import estimate as estimate
    from irbin.prediction.predict import predict as predict
    from irbin.pushing import push as push
    from irbin.records.in_c import COptions as COptions
    from irbin.records.options import DataOptions as DataOptions
    from irbin.records.options import SourceOptions as SourceOptions
    from irbin.runtime.loading import load as load
    from irbin.runtime.threads import set_num_threads as set_num_threads
    from irbin.sources.opened import open_network as open_network
    from irbin.verbs import compare as compare
    from irbin.verbs import convert as convert
    from irbin.verbs import evaluate as evaluate
    from irbin.verbs import export as export
    from irbin.verbs import export_c as export_c
    from irbin.verbs import export_onnx as export_onnx
    from irbin.verbs import finetune as finetune
    from irbin.verbs import plan as plan

_HOME = {
    "COptions": "irbin.records.in_c",
    "DataOptions": "irbin.records.options",
    "IrbinError": "irbin.errors",
    "SourceOptions": "irbin.records.options",
    "analyze": "irbin.analysis.analyze",
    "benchmark": "irbin.bench.inference",
    "compare": "irbin.verbs",
    "compress": "irbin.compression.compress",
    "convert": "irbin.verbs",
    "estimate": "irbin.planning.estimate",
    "evaluate": "irbin.verbs",
    "export": "irbin.verbs",
    "export_c": "irbin.verbs",
    "export_onnx": "irbin.verbs",
    "finetune": "irbin.verbs",
    "load": "irbin.runtime.loading",
    "open_network": "irbin.sources.opened",
    "plan": "irbin.verbs",
    "predict": "irbin.prediction.predict",
    "push": "irbin.pushing",
    "set_num_threads": "irbin.runtime.threads",
}

__all__ = [
    "COptions",
    "DataOptions",
    "IrbinError",
    "SourceOptions",
    "__version__",
    "analyze",
    "benchmark",
    "compare",
    "compress",
    "convert",
    "estimate",
    "evaluate",
    "export",
    "export_c",
    "export_onnx",
    "finetune",
    "load",
    "open_network",
    "plan",
    "predict",
    "push",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'irbin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
