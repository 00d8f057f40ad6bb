"""What an ONNX file of irbin's says beside its graph: whose it is, classes, how images are fed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from irbin.artifact.decode import decode
from irbin.artifact.read import Artifact
from irbin.bounds import MAX_DIGITS
from irbin.errors import ArtifactError
from irbin.messages import first_line
from irbin.program.types import shortened
from irbin.records.feeding import fault_of
from irbin.records.json import changed_fields, to_json
from irbin.records.options import SourceRecord
from irbin.version import __version__

FORMAT = "irbin-onnx"


def metadata_of(artifact: Artifact) -> dict[str, str]:
    """The file's `metadata_props`; what is no text is JSON.

    `preprocessing` and `class_names` stand whole for other readers, `source` is what irbin reads.

    Args:
        artifact: a packed folder.
    """
    source, plan = artifact.manifest.source, artifact.manifest.plan
    fields = changed_fields(source)
    for name in ("preprocessing", "class_names"):
        fields.pop(name, None)
    return {
        "format": FORMAT,
        "irbin_version": __version__,
        "preprocessing": _text(to_json(source.preprocessing)),
        "class_names": _text(source.class_names),
        "source": _text(fields),
        "param_count": str(sum(d.n_params for d in plan.decisions) + plan.n_other_params),
    }


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def source_in(metadata: Mapping[str, str], where: str) -> SourceRecord:
    """The network's record in a file's `metadata_props`.

    Args:
        metadata: of the file.
        where: the file, for messages.

    Raises:
        ArtifactError: the file is not irbin's, or what it says is no record.
    """
    if metadata.get("format") != FORMAT:
        raise ArtifactError(
            f"`{where}`: expected an ONNX file that irbin wrote, got one "
            "without its metadata; how images are fed to it and what its classes are is not known"
        )
    try:
        fields = json.loads(metadata["source"])
        for name in ("preprocessing", "class_names"):
            fields[name] = json.loads(metadata[name])
        record: SourceRecord = decode(SourceRecord, fields, "")
    except (KeyError, TypeError, ValueError, RecursionError, ArtifactError) as error:
        why = first_line(error)
        raise ArtifactError(f"`{where}`: expected irbin's metadata, got others: {why}") from error
    if fault := fault_of(record.preprocessing):
        raise ArtifactError(f"`{where}`: at `preprocessing`: {fault}")
    return record


def n_params_in(metadata: Mapping[str, str], where: str) -> int:
    """Parameters of the network as it trained.

    Args:
        metadata: of the file.
        where: the file, for messages.

    Raises:
        ArtifactError: they are no number.
    """
    text = metadata.get("param_count", "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ArtifactError(
            f"`{where}`: expected irbin's metadata, got `param_count` {shortened(text)}"
        )
    return int(text)
