"""A network of any kind that answers bytes: torch is loaded for those that need it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from irbin.artifact.schema import is_packed_folder
from irbin.errors import UsageError
from irbin.hub.repository import located
from irbin.records.options import SourceOptions, SourceRecord, check_given
from irbin.records.results import InputType
from irbin.runtime.arrays import Array
from irbin.runtime.inputs import check_input_type, input_type_of
from irbin.runtime.loading import load
from irbin.runtime.packed import Packed
from irbin.runtime.pixels import Pixels, normalization_of, normalized
from irbin.sources.feeding import as_asked, warn_of_guess

if TYPE_CHECKING:
    from irbin.runtime.model import PackedModel
    from irbin.sources.opened import Source


class Predictor:
    """A network that is given bytes and answers with logits.

    Args:
        source: see `irbin.predict`.
        source_options: how to read it, and how images are fed.
        device: torch's name of it, `auto` for a GPU where there is one; packed networks run on
            the CPU.
        amp: autocast to this type; packed networks take None.
        input_type: of a packed network; None takes bytes where it reads them.

    Attributes:
        record: of the network; its preprocessing is what images are fed with.
        seconds: that the network alone has computed.

    Raises:
        SourceError, ArtifactError: it cannot be read.
        UsageError: it has no classifier, or an option does not fit it.
    """

    def __init__(
        self,
        source: Source | PackedModel,
        source_options: SourceOptions | None = None,
        device: str = "cpu",
        amp: str | None = None,
        input_type: InputType | None = None,
    ) -> None:
        check_given(source_options)
        check_input_type(input_type)
        self.seconds = 0.0
        self._call: Callable[[Pixels], Array]
        if isinstance(source, str) or hasattr(source, "__fspath__"):
            spec = cast("str", source)
            opened: Any = load(spec) if is_packed_folder(located(spec)) else source
        else:
            opened = source
        if isinstance(opened, Packed):
            self.record = as_asked(opened.manifest.source, source_options)
            self._call = _packed(opened, self.record, input_type)
        else:
            from irbin.prediction.module import opened_network, runner

            network, record = opened_network(opened, source_options)
            self.record = as_asked(record, source_options)
            self._call = runner(network, self.record, device, amp)
        if self.record.num_classes == 0:
            raise UsageError(
                f"cannot predict with `{self.record.spec}`: it has no classifier, only features; "
                "call the network itself for them"
            )
        warn_of_guess(self.record)

    def __call__(self, pixels: Pixels) -> Array:
        """Logits float32 (batch, classes) of images uint8 (batch, height, width, channels)."""
        start = time.perf_counter()
        made = self._call(pixels)
        self.seconds += time.perf_counter() - start
        return made


def _packed(
    model: Packed, record: SourceRecord, wanted: InputType | None
) -> Callable[[Pixels], Array]:
    fed = model.with_preprocessing(record.preprocessing)
    chosen = input_type_of(fed, wanted)
    if chosen == "bytes":
        return lambda pixels: np.asarray(fed.bytes(pixels))
    normalization = normalization_of(record.preprocessing, record.preprocessing.input_size[0])
    return lambda pixels: np.asarray(fed.run(normalized(pixels, normalization)))
