"""The public functions `export`, `export_c`, `export_onnx`: a packed folder, C, an ONNX file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from irbin.artifact.read import Artifact, read_artifact
from irbin.artifact.schema import Manifest
from irbin.artifact.write import write_artifact
from irbin.card import card
from irbin.emit.folder import refuse_existing_c, write_c
from irbin.errors import IrbinError, UsageError
from irbin.hub.repository import located
from irbin.messages import without_folders
from irbin.onnx.model import refuse_existing_onnx, write_onnx
from irbin.program.lower import lower
from irbin.records.card import CardFacts, TrainedFacts
from irbin.records.in_c import COptions
from irbin.records.options import FloatDtype, SourceOptions, SourceRecord, check_given
from irbin.records.results import CRecord, ExportRecord, OnnxRecord
from irbin.rewriting.checks import at_size
from irbin.runs.folder import trained_facts
from irbin.runs.listener import Stage, ignore
from irbin.sources.folder import folder_kind, refuse_existing
from irbin.sources.licence import published
from irbin.sources.opened import Source, is_packed, name_of, open_network, refuse_own_source


def export(
    source: Source,
    out: str | Path,
    *,
    source_options: SourceOptions | None = None,
    float_dtype: FloatDtype = "float32",
    overwrite: bool = False,
    stage: Stage = ignore,
) -> ExportRecord:
    """Lowers a converted network to a program and writes the packed folder, with a model card.

    Args:
        source: a converted or fine-tuned network.
        out: folder to write.
        source_options: how to read it; `input_size` may be another than the source's, if it runs.
        float_dtype: storage of everything that is not bits.
        overwrite: replace `out` if it exists.
        stage: told what is being done.

    Raises:
        UsageError: a float network; nothing in it is binary. Or it does not run at `input_size`.
        LowerError, ArtifactError: see `program.lower` and `artifact.write`.
    """
    asked = check_given(source_options, float_dtype=float_dtype)
    stage("reading the network", 0, 0)
    network = open_network(source, replace(asked, input_size=None, img_size=None))
    if network.plan is None:
        raise UsageError(
            "expected a converted network, got a float one; run `irbin convert` on it first"
        )
    refuse_own_source(out, source, network)
    refuse_existing(Path(out), overwrite, kind="packed")
    stage("following what the network computes", 0, 0)
    plan, network = network.plan, at_size(network, asked)
    lowered = lower(network.module, network.source.preprocessing.input_size)
    facts = card_facts(source, network.source)

    def told(manifest: Manifest, n_bytes: int) -> str:
        return card(manifest, replace(facts, total_bytes=n_bytes))

    return write_artifact(
        lowered, network.source, plan, Path(out), float_dtype, overwrite=overwrite, card=told
    )


def card_facts(source: Source, record: SourceRecord) -> CardFacts:
    """What a model card can say of a network before anything of it is measured.

    Args:
        source: that is packed; a run folder tells how it was trained.
        record: of the network, with the way to the float network's folder.
    """
    trained = _run_facts(located(source)) if isinstance(source, str | Path) else None
    licence, base_model = published(record)
    return CardFacts(0, trained, licence, base_model, float_trained=_float_facts(record))


def _run_facts(folder: Path) -> TrainedFacts | None:
    return trained_facts(folder) if folder_kind(folder) == "run" else None


def _float_facts(record: SourceRecord) -> TrainedFacts | None:
    """Of the run whose network (`RUN/best`, as a record names it) a converted one was made of."""
    place = Path(record.spec)
    try:
        return _run_facts(place.parent) if place.is_absolute() and place.is_dir() else None
    except (OSError, IrbinError):  # a card is written whatever stands there now
        return None


def export_c(
    source: Source,
    out: str | Path,
    *,
    c_options: COptions | None = None,
    source_options: SourceOptions | None = None,
    float_dtype: FloatDtype = "float32",
    overwrite: bool = False,
    stage: Stage = ignore,
) -> CRecord:
    """Writes a packed network, or one that is packed on the way, as C that any program links.

    Args:
        source: a packed folder, one of the zoo's, or what `export` takes.
        out: folder to write.
        c_options: its name, made of the source's where there is none; what it reads; how.
        source_options: as `export`; none for what is packed already.
        float_dtype: as `export`; `float32` for what is packed already.
        overwrite: replace `out` if it exists and is such a folder.
        stage: told what is being done.

    Raises:
        UsageError: see `export` and `emit.folder.write_c`.
        LowerError: C is not written for something in the network; nodes and operators are named.
        ArtifactError: the packed folder is not what `docs/format.md` says.
    """
    refuse_existing_c(Path(out), overwrite)
    stage("reading the network", 0, 0)
    artifact = _packed(source, out, source_options, float_dtype)
    stage("writing C", 0, 0)
    return write_c(
        artifact,
        Path(out),
        spec=without_folders(name_of(source)),
        options=c_options,
        overwrite=overwrite,
    )


def export_onnx(
    source: Source,
    out: str | Path,
    *,
    source_options: SourceOptions | None = None,
    float_dtype: FloatDtype = "float32",
    overwrite: bool = False,
    stage: Stage = ignore,
) -> OnnxRecord:
    """Writes a packed network, or one that is packed on the way, as an ONNX file.

    Standard operators only; weights stay at one bit in the file and are unpacked by it. Class
    names and preprocessing are the file's `metadata_props`. Needs the package `onnx`.

    Args:
        source: a packed folder, one of the zoo's, or what `export` takes.
        out: file to write.
        source_options: as `export`; none for what is packed already.
        float_dtype: as `export`; `float32` for what is packed already.
        overwrite: replace `out` if it is a file.
        stage: told what is being done.

    Raises:
        UsageError: see `export` and `onnx.model.write_onnx`.
        LowerError: ONNX is not written for something in the network; all nodes are named.
        ArtifactError: the packed folder is not what `docs/format.md` says.
    """
    refuse_existing_onnx(Path(out), overwrite)
    stage("reading the network", 0, 0)
    artifact = _packed(source, out, source_options, float_dtype)
    stage("writing ONNX", 0, 0)
    spec = without_folders(name_of(source))
    return write_onnx(artifact, Path(out), spec=spec, overwrite=overwrite)


def _packed(
    source: Source,
    out: str | Path,
    source_options: SourceOptions | None,
    float_dtype: FloatDtype,
) -> Artifact:
    """A packed network, read; another is packed first, in a folder that goes again.

    Raises:
        UsageError: options for what is packed already; or see `export`.
    """
    refuse_own_source(out, source)
    if not is_packed(source):
        with TemporaryDirectory(prefix="irbin-") as place:
            packed = Path(place) / "packed"
            export(source, packed, source_options=source_options, float_dtype=float_dtype)
            return read_artifact(packed)
    if float_dtype != "float32" or (source_options or SourceOptions()) != SourceOptions():
        raise UsageError(
            f"`{source}` is packed already: nothing about its source can be chosen any more; "
            "give the run that it was packed from, or leave the options out"
        )
    return read_artifact(located(source))
