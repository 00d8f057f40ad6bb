"""The public function `predict`: pictures in, classes and probabilities out, one by one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from irbin.errors import UsageError
from irbin.hardware import n_cores
from irbin.messages import first_line
from irbin.pictures import Fit, image_mode, opened, pixels_of, read_image
from irbin.prediction.named import STDIN, from_stdin, pictures
from irbin.prediction.predictor import Predictor
from irbin.records.knob import knobs_of, taken
from irbin.records.options import Preprocessing, SourceOptions
from irbin.records.prediction import Prediction, PredictOptions
from irbin.records.results import InputType
from irbin.runtime.answers import answers
from irbin.runtime.pixels import Pixels

if TYPE_CHECKING:
    from irbin.runtime.model import PackedModel
    from irbin.sources.opened import Source

_BATCHES_AHEAD = 2
"""That are being decoded while one is computed."""


def predict(
    source: Source | PackedModel,
    images: Any,
    *,
    source_options: SourceOptions | None = None,
    device: str = "cpu",
    amp: str | None = None,
    input_type: InputType | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """What a network says of pictures, in their order, as soon as it is known.

    Images are fed as the network's record says: what `evaluate` counts as right is what this
    answers. Of a packed network no torch is loaded. A damaged picture has an `error` in the place
    of an answer, and the others go on.

    Args:
        source: whatever names a network, or one that is live: float, converted, a run, packed.
        images: a file, a folder, a pattern (`photos/**/*.jpg`), `-` for a picture on standard
            input, a PIL image or an array uint8 (height, width, channels); or many of these.
        source_options: how to read the source, and how images are fed.
        device: torch's name of it; packed networks run on the CPU.
        amp: autocast to this type; packed networks compute in float32.
        input_type: of a packed network; None takes bytes where it reads them.
        options: fields of `PredictOptions` (`topk`, `batch_size`, `upright`).

    Returns:
        A record for each picture.

    Raises:
        SourceError, ArtifactError: the network cannot be read.
        UsageError: it has no classifier, an option makes no sense, or nothing has such a name.
        DataError: a folder or a pattern without a picture.
    """
    settings, rest = taken(PredictOptions, options)
    if rest:
        known = ", ".join(f"`{one.name}`" for one in knobs_of(PredictOptions))
        raise UsageError(f"`{next(iter(rest))}`: no such option of predictions; there are {known}")
    is_one = isinstance(images, str | os.PathLike | np.ndarray) or not isinstance(images, Iterable)
    named = pictures([images] if is_one else images)
    predictor = Predictor(source, source_options, device, amp, input_type)
    return predictions(predictor, named, settings)


def predictions(
    predictor: Predictor, named: Iterable[tuple[str, Any]], options: PredictOptions
) -> Iterator[Prediction]:
    """As `predict`, of a network that is opened and pictures that are found."""
    reader = _Reader(predictor.record.preprocessing, options.upright)
    names = predictor.record.class_names
    for batch in _batches(named, options.batch_size, reader):
        good = [(name, pixels) for name, pixels in batch if not isinstance(pixels, str)]
        told: Iterator[Prediction] = iter(())
        if good:
            logits = predictor(np.stack([pixels for _, pixels in good]))
            told = iter(answers(logits, [name for name, _ in good], names, options.topk))
        for name, pixels in batch:
            yield Prediction(name, (), pixels) if isinstance(pixels, str) else next(told)


class _Reader:
    """A picture's pixels at the network's size, or why there are none.

    Args:
        preprocessing: size, and how it is reached.
        upright: see `predict`.
    """

    def __init__(self, preprocessing: Preprocessing, upright: bool) -> None:
        self.fit, self.mode = Fit(preprocessing), image_mode(preprocessing)
        self.upright = upright

    def __call__(self, given: Any) -> Pixels | str:
        try:
            if isinstance(given, str) and given == STDIN:
                picture = read_image(from_stdin(), self.mode, upright=self.upright)
            else:
                picture = opened(given, self.mode, upright=self.upright)
            return pixels_of(self.fit(picture))
        except UsageError:
            raise
        except Exception as error:  # Pillow's plug-ins raise anything; images may be bombs
            return first_line(error)


def _batches(
    named: Iterable[tuple[str, Any]], batch_size: int, reader: _Reader
) -> Iterator[list[tuple[str, Pixels | str]]]:
    """Batches of what is called how and its pixels, decoded by threads some batches ahead.

    Pillow decodes and resizes without the interpreter's lock.
    """
    rest = iter(named)
    waiting: deque[list[tuple[str, Future[Pixels | str]]]] = deque()
    threads = ThreadPoolExecutor(n_cores(), thread_name_prefix="irbin-reads")

    def begin() -> bool:
        some = islice(rest, batch_size)
        waiting.append([(name, threads.submit(reader, given)) for name, given in some])
        return bool(waiting[-1])

    try:
        while begin():
            if len(waiting) > _BATCHES_AHEAD:
                yield [(name, pixels.result()) for name, pixels in waiting.popleft()]
        for batch in waiting:
            yield [(name, pixels.result()) for name, pixels in batch]
    finally:
        threads.shutdown(cancel_futures=True)
