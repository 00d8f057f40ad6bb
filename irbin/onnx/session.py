"""An ONNX file of irbin's as a network, run by ONNX Runtime as it comes: its optimizer is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from irbin.errors import ArtifactError, UsageError
from irbin.files import MAX_POINTER_BYTES, not_fetched, pointer_size
from irbin.messages import first_line, system_says
from irbin.onnx.metadata import n_params_in, source_in
from irbin.onnx.model import MAX_FILE_BYTES, SUFFIX
from irbin.onnx.package import package
from irbin.records.options import SourceRecord

RUNTIME = "onnxruntime"


def is_onnx(source: object) -> TypeGuard[str | Path]:
    """Whether this names an ONNX file."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source).expanduser()
    return path.suffix == SUFFIX and path.is_file()


def open_onnx(path: str | Path) -> OnnxNetwork:
    """The network in an ONNX file that `export_onnx` wrote.

    Args:
        path: the file.

    Raises:
        UsageError: the package `onnxruntime` is not installed.
        ArtifactError: the file is damaged, or is another's: how images are fed to it and what its
            classes are is not known.
    """
    runtime = package(RUNTIME, f"`{path}`")
    file = Path(path).expanduser()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal; errors are raised
    try:
        session = runtime.InferenceSession(
            _content(file), options, providers=["CPUExecutionProvider"]
        )
        told = session.get_modelmeta().custom_metadata_map
    except OSError as error:
        raise ArtifactError(f"`{path}` cannot be read: {system_says(error)}") from error
    except ArtifactError:
        raise
    except Exception as error:  # ONNX Runtime's classes are the extension's own
        raise ArtifactError(
            f"`{path}`: expected an ONNX file that ONNX Runtime takes, got {first_line(error)}"
        ) from error
    source = source_in(told, str(path))
    inputs = session.get_inputs()
    shape = [one.shape[1:] for one in inputs if one.type == "tensor(float)"]
    if shape != [list(source.preprocessing.input_size)]:
        raise ArtifactError(
            f"`{path}`: expected one input, float32 (N, "
            f"{', '.join(map(str, source.preprocessing.input_size))}), got {inputs[:2]}"
        )
    return OnnxNetwork(session, source, n_params_in(told, str(path)), file.stat().st_size)


def _content(file: Path) -> bytes:
    """The whole file: nothing beside it is read."""
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"`{file}`: expected at most {MAX_FILE_BYTES:,} bytes in an ONNX file")
    content = file.read_bytes()
    size = pointer_size(content[:MAX_POINTER_BYTES])
    if size is not None:
        raise ArtifactError(f"`{file}`: expected an ONNX file, got {not_fetched(size)}")
    return content


class OnnxNetwork(nn.Module):
    """What ONNX Runtime runs, as a module: on the CPU, wherever the images are.

    Attributes:
        source: the network's record, as the file has it.
        n_params: of the network as it trained.
        n_bytes: of the file.
    """

    def __init__(self, session: Any, source: SourceRecord, n_params: int, n_bytes: int) -> None:
        super().__init__()
        self._session, self.source = session, source
        self.n_params, self.n_bytes = n_params, n_bytes
        self._input: str = session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """The first result.

        Args:
            images: float32 (batch, channels, height, width), normalized.

        Raises:
            UsageError: they have another size than the file's.
            ArtifactError: ONNX Runtime fails.
        """
        wanted = self.source.preprocessing.input_size
        if tuple(images.shape[1:]) != wanted:
            raise UsageError(
                f"expected images (N, {', '.join(map(str, wanted))}), got {tuple(images.shape)}; "
                "export the network for another size"
            )
        try:
            results = self._session.run(None, {self._input: images.float().cpu().numpy()})
        except Exception as error:  # ONNX Runtime's classes are the extension's own
            raise ArtifactError(f"ONNX Runtime fails: {first_line(error)}") from error
        return torch.from_numpy(results[0]).to(images.device)
