"""What a packed network is, with torch or without: arrays in and out, or tensors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from irbin.artifact.read import Artifact
from irbin.kernels.passes import PoolKernel
from irbin.kernels.sign_convolution import SignConvKernel
from irbin.messages import counted
from irbin.program.fuse import FUSIONS
from irbin.program.fused import Item
from irbin.program.own import inner_product
from irbin.program.program import Node
from irbin.records.bench import TorchWork
from irbin.records.options import FloatMath, Preprocessing
from irbin.records.prediction import TOP, Prediction
from irbin.runtime.answers import answers
from irbin.runtime.arrays import as_tensor, dtype_name, is_tensor
from irbin.runtime.calls import is_look, runs_torch, short
from irbin.runtime.engine import Engine, Record
from irbin.runtime.given import check_shape, refuse_untaken, taken
from irbin.runtime.pixels import Pixels, pixels_of
from irbin.runtime.schedule import Watch

if TYPE_CHECKING:
    from irbin.artifact.schema import Manifest
    from irbin.program.program import Program

BITS_SUFFIX = ".bits"


class Packed:
    """What a packed network is, with torch or without; arguments and errors as `PackedModel`'s."""

    def __init__(
        self,
        artifact: Artifact,
        fusions: Collection[str] = FUSIONS,
        float_math: FloatMath = "float32",
        float_convs: bool | None = None,
    ) -> None:
        self.manifest: Manifest = artifact.manifest
        self.program: Program = artifact.program
        self.path: str = artifact.path
        self._engine = Engine(artifact, fusions, float_math, float_convs)

    def run(self, x: Any, record: Record | None = None) -> Any:
        """As a call, and shows every intermediate value to `record`.

        Args:
            x: see `PackedModel.forward`.
            record: told of every node and its result, in order, unfused. What depends on constants
                alone is not among them.

        Raises:
            UsageError: the images have another size than the program's.
            ArtifactError: a node fails; it is named.
        """
        images, engine = self._images(x), self._engine
        results = engine.run(images) if record is None else engine.record(images, record)
        return _as_given(results, x)

    def bytes(self, images: Any) -> Any:
        """Logits of a batch of images as bytes, which the network normalizes itself.

        Normalization is the manifest's, (byte / 255 − mean) / std, and padding zero after it. Where
        only convolutions read the images, it is part of them and they compute in integers, which
        gives the same bits on every machine (`docs/format.md`); answers differ from those of
        normalized floats by what weights of 16 bits lose. Else, see `why_floats`, images are
        normalized first, and answers are those of floats.

        Args:
            images: uint8 (batch, height, width, channels), an array, or a tensor on any device;
                batch may be 0.

        Returns:
            As a call: tensors on the device of a tensor, arrays for an array.

        Raises:
            UsageError: they are no bytes, have another size than the program's, or the manifest's
                normalization is of another number of channels.
        """
        engine = self._engine
        made = engine.run(engine.as_read(pixels_of(self.program, images)))
        return _as_given([as_tensor(y) for y in made] if is_tensor(images) else made, images)

    def channels_first(self, images: Any) -> Any:
        """As `bytes`, of a tensor (batch, channels, height, width), as loaders have them."""
        return self.bytes(images.permute(0, 2, 3, 1))

    def preprocess(self, images: Any, *, upright: bool = False) -> Pixels:
        """Pictures as `bytes` takes them: decoded, resized and cropped as the manifest says.

        Args:
            images: a file's name, a PIL image, or an array uint8 (height, width) or (height, width,
                channels); or a list of these.
            upright: turn pictures as their cameras say that they were held.

        Returns:
            uint8 (batch, height, width, channels); batch is 1 for what is no list.

        Raises:
            DataError: one cannot be decoded; it is named.
            UsageError: something else was given.
        """
        from irbin.pictures import Fit, image_mode, named_picture
        from irbin.pictures import pixels_of as pixels_in  # 40 ms of Pillow

        preprocessing = self.manifest.source.preprocessing
        fit, mode = Fit(preprocessing), image_mode(preprocessing)
        given = images if isinstance(images, list | tuple) else [images]
        pixels = [pixels_in(fit(named_picture(one, mode, upright=upright))) for one in given]
        channels, height, width = preprocessing.input_size
        return np.stack(pixels) if pixels else np.empty((0, height, width, channels), np.uint8)

    def predict(self, images: Any, topk: int = TOP, *, upright: bool = False) -> list[Prediction]:
        """The most probable classes of pictures.

        Args:
            images: see `preprocess`.
            topk: how many classes.
            upright: see `preprocess`.

        Returns:
            A record for each picture.

        Raises:
            DataError, UsageError: see `preprocess`; or the network has no classifier.
        """
        from irbin.pictures import called

        given = images if isinstance(images, list | tuple) else [images]
        names = [called(one, i) for i, one in enumerate(given)]
        logits = np.asarray(self.bytes(self.preprocess(given, upright=upright)))
        return answers(logits, names, self.manifest.source.class_names, topk)

    @property
    def why_floats(self) -> str:
        """Why `bytes` normalizes images first; '' where the network's first layers read bytes.

        Raises:
            UsageError: the manifest's normalization is of another number of channels.
        """
        return self._engine.why_floats

    def watch(self, x: Any, watch: Watch) -> Any:
        """As a call, or `bytes`, and tells `watch` of every fused item and its seconds.

        Raises:
            UsageError: the images have another size than the program's.
        """
        return _as_given(self._engine.run(self._as_read(x), watch), x)

    def calling_seconds(self, x: Any, n_runs: int) -> list[float]:
        """Seconds that a batch's kernels take to be called; for `runtime.profile`."""
        return self._engine.calling_seconds(self._as_read(x), n_runs)

    def with_float_math(self, float_math: FloatMath) -> Self:
        """This network, or one like it that computes its float convolutions so.

        Raises:
            UsageError: this processor does not.
        """
        if float_math == self._engine.float_math:
            return self
        artifact, fusions, _, float_convs = self._engine.origin
        return self._other(artifact, fusions, float_math, float_convs)

    def with_preprocessing(self, preprocessing: Preprocessing) -> Self:
        """This network, or one like it whose images are fed so: `bytes` normalizes them."""
        artifact, fusions, float_math, float_convs = self._engine.origin
        if preprocessing == artifact.manifest.source.preprocessing:
            return self
        source = replace(artifact.manifest.source, preprocessing=preprocessing)
        artifact = replace(artifact, manifest=replace(artifact.manifest, source=source))
        return self._other(artifact, fusions, float_math, float_convs)

    def _other(self, *settings: Any) -> Self:
        make: Any = self.__reduce__()[0]
        other: Self = make(*settings)
        return other

    @property
    def items(self) -> tuple[Item, ...]:
        """What is run, in order: fused kernels, and nodes that torch computes."""
        return self._engine.work.items

    def items_on(self, x: Any) -> tuple[Item, ...]:
        """What is run on images of floats, or of bytes."""
        return self._engine.work_on(self._as_read(x)).items

    def has_signs_for_floats(self, item: Item) -> bool:
        """Whether a kernel adds and subtracts floats by weights that are signs (`1w32a`)."""
        kernel = self._engine.work.kernels.get(item.name)
        if isinstance(kernel, PoolKernel):
            kernel = kernel.producer
        return isinstance(kernel, SignConvKernel)

    @property
    def torch_work(self) -> TorchWork:
        """What torch computes of it, with the kernels of this process; nothing, mostly."""
        return _torch_work(self.items)

    def torch_work_on(self, x: Any) -> TorchWork:
        """The same for images like these, which may be bytes."""
        return _torch_work(self.items_on(x))

    def is_run(self, node: Node) -> bool:
        """Whether a node depends on the images, and is not computed once."""
        return self._engine.is_run(node)

    @property
    def layer_nodes(self) -> dict[str, tuple[tuple[Node, Node], ...]]:
        """By binary layer's name, in execution order: its `bitpack` and `bconv2d` or `bgemm` nodes.

        A layer that the network calls several times has several pairs; a 1w32a layer has none.
        """
        by_name = {node.name: node for node in self.program.nodes}
        by_layer: dict[str, tuple[tuple[Node, Node], ...]] = {}
        for node in self.program.nodes:
            own = inner_product(node)
            if own is not None:
                layer = own.weight_bits.name.removesuffix(BITS_SUFFIX)
                by_layer[layer] = (*by_layer.get(layer, ()), (by_name[own.bits.name], node))
        return by_layer

    def extra_repr(self) -> str:
        """For `print`."""
        return f"{self.path!r}, {counted(len(self.program.nodes), 'node')}"

    def _as_read(self, x: Any) -> Any:
        """Images for the engine, of floats as a call takes them, or of bytes."""
        if dtype_name(x) != "uint8":
            return self._images(x)
        read = self._engine.as_read(pixels_of(self.program, x))
        return as_tensor(read) if is_tensor(x) else read

    def _images(self, x: Any) -> Any:
        refuse_untaken(x)
        check_shape(self.program, tuple(x.shape))
        return taken(x, writable=self._engine.runs_torch)


def _torch_work(items: tuple[Item, ...]) -> TorchWork:
    return TorchWork.of([_named(item) for item in items if not is_look(item)])


def _named(item: Item) -> str:
    """The operator of torch's that computes it, or '' where a kernel does."""
    return short(item.op) if isinstance(item, Node) and runs_torch(item) else ""


def _as_given(made: list[Any], x: Any) -> Any:
    """What the caller gets: arrays for an array, tensors on the device of x for a tensor."""
    results = [y.to(x.device) for y in made] if is_tensor(x) else made
    return results[0] if len(results) == 1 else results
