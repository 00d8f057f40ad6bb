"""A network of torch's that answers bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from irbin.evaluation.modes import autocast, evaluating, exact_float32
from irbin.records.options import SourceOptions, SourceRecord
from irbin.runtime.arrays import Array
from irbin.runtime.pixels import Pixels, normalization_of, normalized
from irbin.sources.opened import open_answering, runnable, source_record


def opened_network(source: Any, options: SourceOptions | None) -> tuple[Any, SourceRecord]:
    """What is called with images, and its record. Raises: see `sources.opened.open_answering`."""
    network = open_answering(source, options)
    return runnable(network)[0], source_record(network)


def runner(
    module: Any, record: SourceRecord, device: str, amp: str | None
) -> Callable[[Pixels], Array]:
    """A function from images uint8 (batch, height, width, channels) to logits, as `eval` runs it.

    Args:
        module: it is moved to the device.
        record: how images are fed.
        device: torch's name of it.
        amp: autocast to this type; None computes in exact float32.
    """
    has_gpu = device == "auto" and torch.cuda.is_available()
    place = torch.device(device if device != "auto" else "cuda" if has_gpu else "cpu")
    module = module.to(place)
    normalization = normalization_of(record.preprocessing, record.preprocessing.input_size[0])
    autocast(place, amp)  # refuses an unknown type before any work
    exact = exact_float32 if amp in (None, "off") else contextlib.nullcontext

    def run(pixels: Pixels) -> Array:
        images = torch.from_numpy(np.ascontiguousarray(normalized(pixels, normalization)))
        with evaluating(module), torch.inference_mode(), autocast(place, amp), exact():
            logits = module(images.to(place))
        made: Array = logits.float().cpu().numpy()
        return made

    return run
