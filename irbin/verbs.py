"""The same verbs as the command line, for Python: each composes the stages and returns a value.

A `source` is whatever the command line takes (a spec, a checkpoint, a folder), or something live:
an `nn.Module`, a `Network`, a `PackedModel`. Nothing here prints or exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from irbin.comparison import compare as compare
from irbin.data import check_classes, class_names, eval_loader, open_dataset
from irbin.data.order import Feed
from irbin.errors import UsageError
from irbin.evaluation import accuracy
from irbin.evaluation.inputs import reader_of
from irbin.evaluation.labelled import Labelled
from irbin.exporting import export as export
from irbin.exporting import export_c as export_c
from irbin.exporting import export_onnx as export_onnx
from irbin.kernels import native
from irbin.planning.plan import make_plan
from irbin.processes import joined, own_device
from irbin.program.program import format_program
from irbin.recipes.file import RecipeFile, plan_options
from irbin.recipes.request import asked
from irbin.records.bench import PackedProgram
from irbin.records.json import to_json
from irbin.records.options import DataOptions, SourceOptions, SourceRecord, check_given
from irbin.records.plan import Plan
from irbin.records.progress import OnProgress
from irbin.records.results import Evaluation, InputType
from irbin.records.training import RunRecord
from irbin.rewriting.conversion import as_recipe_says, conversion_line, make_binary
from irbin.rewriting.network import Network
from irbin.runs.folder import refuse_existing_run
from irbin.runs.listener import Listener, Stage, Told, ignore
from irbin.runtime.loading import load as load_packed
from irbin.runtime.model import PackedModel
from irbin.sources.feeding import as_asked, warn_of_guess
from irbin.sources.folder import refuse_existing, refuse_float, save_folder
from irbin.sources.opened import (
    Source,
    check_classifier,
    name_of,
    open_answering,
    open_network,
    param_count,
    refuse_own_source,
    runnable,
    size_bytes,
    source_record,
    teacher_of,
)
from irbin.tracing.trace import trace
from irbin.training.loop import finetune as finetune_network
from irbin.writers import sole_writer


def plan(source: Source, *, source_options: SourceOptions | None = None, **options: Any) -> Plan:
    """Decides for each layer: binary or float, and why; a converted network answers with its plan.

    Args:
        source: see `open_network`.
        source_options: how to read it.
        options: fields of `PlanOptions` (`bits`, `keep`, `binarize`, `activation`, `shortcut`, …).

    Raises:
        PlanError: a rule matches nothing, or nothing is left to binarize.
        UsageError: a network that is converted already is given options.
    """
    return inspect(source, source_options=source_options, **options)[0]


def inspect(
    source: Source,
    *,
    source_options: SourceOptions | None = None,
    stage: Stage = ignore,
    **options: Any,
) -> tuple[Plan, SourceRecord]:
    """As `plan`, with the record of the network; `stage` is told what is being done."""
    stage("reading the network", 0, 0)
    network = open_network(source, source_options)
    warn_of_guess(network.source)
    if network.plan is None:
        stage("tracing the network", 0, 0)
        graph = trace(network.module, network.source.preprocessing.input_size)
        return make_plan(graph, plan_options(options)), network.source
    if options:
        given = ", ".join(f"`{name}`" for name in sorted(options))
        raise UsageError(
            f"expected a float network to plan with {given}, got one that is converted already; "
            "plan its source instead"
        )
    return network.plan, network.source


def convert(
    source: Source | None = None,
    out: str | Path | None = None,
    *,
    recipe: str | RecipeFile | None = None,
    source_options: SourceOptions | None = None,
    data: DataOptions | None = None,
    calibrate: int = 0,
    overwrite: bool = False,
    stage: Stage = ignore,
    **options: Any,
) -> Network:
    """Turns a float network into a binary one that can be fine-tuned; the source is left as it is.

    Args:
        source: see `open_network`; None takes the recipe's.
        out: folder to write; None writes nothing.
        recipe: name or YAML file whose `convert` sets defaults for `options`.
        source_options: how to read the source; the recipe's seed where they give none.
        data: training images for `calibrate`.
        calibrate: images to re-estimate batch-norm statistics on; 0 leaves them.
        overwrite: replace `out` if it exists.
        stage: told what is being done, and of the images that calibration has done.
        options: fields of `PlanOptions`.

    Raises:
        PlanError, ConvertError: see `planning.plan`, `rewriting.rewrite`, `rewriting.calibrate`.
        UsageError: the network is converted already, there is no such recipe, or `calibrate` has
            no data.
    """
    request = asked(source, source_options, recipe=recipe, data=data)
    if not isinstance(calibrate, int) or calibrate < 0:
        raise UsageError(f"`calibrate`: expected a number of images ≥ 0, got {calibrate!r}")
    if calibrate and (data is None or not (data.data_dir or data.dataset)):
        raise UsageError("`calibrate` needs images: give `data_dir=`")
    stage("reading the network", 0, 0)
    network = open_network(request.source, request.source_options)
    if network.plan is not None:
        raise UsageError("expected a float network, got one that is converted already")
    if out is not None:  # before any long work, not after it
        refuse_own_source(out, source, network)
        refuse_existing(Path(out), overwrite)
        refuse_float(Path(out))
    warn_of_guess(network.source)
    wanted = plan_options({**(request.file.convert or {}), **options})
    converted = make_binary(network, wanted, request.data, calibrate, stage)
    if out is not None:
        save_folder(converted, Path(out), overwrite=overwrite)
    return converted


def finetune(
    source: Source | None,
    out: str | Path,
    *,
    data: DataOptions,
    source_options: SourceOptions | None = None,
    recipe: str | RecipeFile | None = None,
    overrides: Mapping[str, Any] | None = None,
    teacher: Source | None = None,
    resume: bool = False,
    device: str = "cpu",
    **told: Unpack[Told],
) -> RunRecord:
    """Trains a network and writes a run folder: a converted one with EDE, a float one as it is.

    Where the recipe says how to convert, a float network is converted first, as `convert` does
    it with the same recipe, images and seed.

    Args:
        source: see `open_network`; None takes the recipe's.
        out: run folder; must not exist unless `resume`.
        data: training and validation images.
        source_options: how to read the source and, where it is a name, the teacher.
        recipe: name or YAML file that sets defaults; None takes `default` or `float`.
        overrides: fields of `Recipe` that win over the recipe.
        teacher: network to distill from; None takes the converted network's float source if it had
            trained weights.
        resume: go on with the run in `out`.
        device: torch's name of it.
        told: fields of `runs.listener.Listener`: `report` is told of every step, `on_epoch` of
            every epoch, `say`, in a line each, how the run is computed, and `stage` of what takes
            time before the first step, how much is done, and of how much.

    Raises:
        UsageError: the recipe or an override makes no sense, the network has no classifier, or
            another process is writing `out`.
        DataError, TrainingError: see `data` and `training.loop`.
    """
    listener = Listener.of(**told)
    request = asked(source, source_options, recipe=recipe, overrides=overrides, data=data)
    source, file, data = request.source, request.file, request.file.batched(data)
    own_device(device)
    network = open_network(source, request.source_options)
    check_classifier(network.source, "fine-tune")
    settings = request.recipe(converted=network.plan is not None or file.convert is not None)
    warn_of_guess(network.source)
    if not resume:
        refuse_own_source(out, source, network, teacher)
        refuse_existing_run(Path(out))
    opened, network = network, as_recipe_says(network, file, data, not resume, listener.stage)
    chosen_teacher = None
    if settings.distill:
        own = opened if network is not opened and isinstance(source, str | Path) else None
        chosen_teacher = teacher_of(network, teacher, source_options, own)
    elif teacher is not None:
        raise UsageError("`teacher` was given but the recipe does not distill; add `distill=True`")
    inputs = {
        "source": name_of(source),
        "recipe": file.name or None,
        "overrides": request.overrides,
        "teacher": None if teacher is None else name_of(teacher),
        "convert": None if network is opened else to_json(file.plan_options),
    }
    with joined(device) as group, ExitStack() as held:
        if group.is_first:
            held.enter_context(sole_writer(Path(out), make=not resume))
        if group.is_first and network is not opened and network.plan:
            listener.say(conversion_line(network.plan, file.name))
        return finetune_network(
            network,
            data,
            settings,
            Path(out),
            teacher=chosen_teacher,
            resume=resume,
            group=group,
            listener=listener,
            inputs=inputs,
        )


def evaluate(
    source: Source | PackedModel,
    *,
    data: DataOptions,
    source_options: SourceOptions | None = None,
    device: str = "cpu",
    channels_last: bool = False,
    amp: str | None = None,
    input_type: InputType | None = None,
    predictions: int = 0,
    report: OnProgress | None = None,
) -> Evaluation:
    """Accuracy on every image of the validation split.

    Args:
        source: see `open_answering`; an ONNX file is run by ONNX Runtime on the CPU.
        data: images and batch size.
        source_options: how to read the source.
        device: torch's name of it; packed networks run on the CPU, in float32.
        channels_last: feed channels-last tensors.
        amp: `bfloat16` or `float16` autocast; None runs in float32.
        input_type: of a packed network; None: `bytes` where it reads them, see `PackedModel.bytes`.
        predictions: classes told of every image, in the record's `answers`; 0 keeps none.
        report: told of progress.

    Raises:
        DataError: no images, a damaged one, or another number of classes than the network has.
        UsageError: the network has no classifier, or there is no such input.
    """
    network = open_answering(source, check_given(source_options, data, needs_data=True))
    record = as_asked(source_record(network), source_options)
    check_classifier(record, "evaluate")
    dataset = open_dataset(data, data.val_split, record.preprocessing, training=False)
    check_classes(record, dataset, by_map=bool(data.class_map))
    warn_of_guess(record)
    module, kind = runnable(network)
    call, given = reader_of(network, record.preprocessing, input_type)
    subject = accuracy.Subject(
        name_of(source),
        kind,
        class_names(dataset),
        param_count(network),
        size_bytes(source, network),
        record.preprocessing,
        record.stated_by,
    )
    with joined("cpu" if call else device) as group:
        feed = Feed(device=group.device, rank=group.rank, world_size=group.size)
        kept = Labelled(dataset, subject.class_names, predictions, group) if predictions else None
        measured = accuracy.evaluate(
            call or module.to(group.device),
            eval_loader(dataset, data, replace(feed, normalized=given == "float32")),
            subject,
            device=group.device,
            channels_last=channels_last,
            amp_dtype=None if call else amp,
            report=report,
            watch=kept,
            group=group,
        )
    measured = replace(measured, answers=None if kept is None else tuple(kept.found))
    return replace(measured, kernels=call and native.in_words(), input_type=given)


def inspect_packed(folder: str | Path) -> PackedProgram:
    """A packed folder's program as text, a line a node, with shapes; and how it runs here.

    Raises:
        ArtifactError: the folder is not what `docs/format.md` says.
    """
    model = load_packed(Path(folder))
    try:
        why_floats = model.why_floats
    except UsageError as error:  # it takes no bytes at all
        why_floats = str(error)
    text = format_program(model.program)
    return PackedProgram(text, model.torch_work, native.active(), why_floats)
