"""The verb `compare`: a packed network against the trained one, image by image."""

from __future__ import annotations

from pathlib import Path

from irbin.data import check_classes, eval_loader, open_dataset
from irbin.data.workers import told_between_batches
from irbin.errors import UsageError
from irbin.evaluation.agreement import compare as compare_batches
from irbin.records.options import DataOptions, SourceOptions, check_given
from irbin.records.progress import OnProgress
from irbin.records.results import Agreement
from irbin.rewriting.calibrate import counted_images
from irbin.runtime.loading import load as load_packed
from irbin.runtime.model import PackedModel
from irbin.sources.opened import Source, open_network


@told_between_batches()
def compare(
    binary: Source,
    packed: str | Path | PackedModel,
    *,
    data: DataOptions,
    source_options: SourceOptions | None = None,
    report: OnProgress | None = None,
) -> Agreement:
    """Packed against trained: flipped bits, equal top-1, and why each difference came about.

    Args:
        binary: the converted or fine-tuned network.
        packed: what `export` made of it.
        data: images; the whole validation split is compared.
        source_options: how to read the trained network, and how images are fed to both.
        report: told of progress.

    Raises:
        UsageError: `binary` is a float network.
    """
    check_given(source_options, data, needs_data=True)
    network = open_network(binary, source_options)
    if network.plan is None:
        raise UsageError("`compare` needs a converted network, got a float one")
    model = packed if isinstance(packed, PackedModel) else load_packed(Path(packed))
    dataset = open_dataset(data, data.val_split, network.source.preprocessing, training=False)
    if network.source.num_classes:  # a backbone is compared on any images
        check_classes(network.source, dataset, by_map=bool(data.class_map))
    batches = counted_images(eval_loader(dataset, data), len(dataset), report)
    return compare_batches(network.module, model, batches)
