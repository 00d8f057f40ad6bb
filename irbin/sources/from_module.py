"""The user's own code becomes a network: `module:package.mod:factory`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parameter import is_lazy

from irbin.copies import copied
from irbin.errors import SourceError, UsageError
from irbin.messages import nearest, with_class
from irbin.records.options import Preprocessing, SourceOptions, SourceRecord
from irbin.rewriting.network import Network
from irbin.sources.feeding import for_channels, stated
from irbin.sources.from_timm import preprocessing_of
from irbin.tracing.calling import count_classes


def load_module(name: str, options: SourceOptions) -> Network:
    """A float network from `package.mod:factory`, imported from the path or the working directory.

    The factory is called with `model_kwargs`, plus `num_classes` and `in_chans` where given.
    `pretrained_cfg`, in timm's words, on the network it returns says how images are fed.

    Raises:
        SourceError: there is no such module or factory, or it gives no network for images.
        UsageError: the factory does not take an argument.
    """
    kwargs = dict(options.model_kwargs)
    for key, value in (("num_classes", options.num_classes), ("in_chans", options.in_chans)):
        if value is not None:
            kwargs[key] = value
    module, notes = plain_module(build_module(name, kwargs))
    seen, by = preprocessing_in(module, options)
    spec = f"module:{name}"
    num_classes = count_classes(module, seen, spec)
    if kwargs.get("num_classes") == 0:  # asked for without a head: its features are no logits
        num_classes = 0
    record = SourceRecord(spec, spec, num_classes, seen, kwargs, stated_by=by)
    return Network(module, record, notes=notes)


def build_module(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """What the factory `package.mod:factory` returns for `kwargs`."""
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(**kwargs)
    except TypeError as error:
        raise UsageError(
            f"`module:{name}` cannot be called: {error}; given {dict(kwargs)}"
        ) from error
    except ValueError:
        pass  # a built-in without a signature: calling it will tell
    try:
        with _working_directory_first():
            module = factory(**kwargs)
    except SystemExit as error:
        raise SourceError(_ended(name, "calling it", error)) from error
    except Exception as error:  # the user's code may raise anything
        raise SourceError(f"`module:{name}` raised {with_class(error)}") from error
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"`module:{name}`: expected a factory that returns a torch.nn.Module, "
            f"got a {type(module).__name__}"
        )
    return module


def plain_module(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """A live module as irbin works with it: not compiled, in float32, outside inference mode.

    Returns:
        The module itself where it is all that, else a copy; and what was changed, in words.

    Raises:
        SourceError: a layer says itself what equals it.
    """
    _check_identity(module)
    notes = []
    if isinstance(module, OptimizedModule):
        module = module._orig_mod
        notes.append("the network behind `torch.compile` was taken; compile the converted one anew")
    compiled = [part for part in module.modules() if isinstance(part, OptimizedModule)]
    if compiled:
        behind: dict[int, Any] = {}
        for part in compiled:  # wherever its owner keeps it
            behind[id(part)] = copied(part._orig_mod, behind)
        module = copied(module, behind)
        notes.append(
            "the parts behind `torch.compile` were taken; compile the converted network anew"
        )
    if any(part._compiled_call_impl is not None for part in module.modules()):
        module = copied(module)  # which leaves compiled calls behind
        notes.append(
            "what `compile()` made of its modules was left; compile the converted one anew"
        )
    if any(_compiled_forward(part) is not None for part in module.modules()):
        module = copied(module)
        for inner in module.modules():
            _take_back_forward(inner)
        notes.append(
            "a `forward` that was compiled was taken as it was before; compile the converted "
            "network anew"
        )
    tensors = [t for t in (*module.parameters(), *module.buffers()) if not is_lazy(t)]
    other = {t.dtype for t in tensors if t.is_floating_point()} - {torch.float32}
    if any(t.is_inference() for t in tensors):
        memo: dict[int, Any] = {}
        with torch.inference_mode(False):
            for p in module.parameters():
                memo[id(p)] = nn.Parameter(p.detach().clone())
            memo |= {id(b): b.clone() for b in module.buffers()}
            module = copied(module, memo)
        notes.append("its weights were made in inference mode; a copy that can train was taken")
    if other:
        module = copied(module).float()
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in other))
        notes.append(f"its weights were {names}; the converted network has float32")
    return module, tuple(notes)


def _check_identity(module: nn.Module) -> None:
    """Torch keeps the layers that it has met in sets: of two that are equal it meets one alone."""
    left, met = [("", module)], set()
    while left:
        name, part = left.pop()
        kind = type(part)
        if kind.__eq__ is not nn.Module.__eq__ or kind.__hash__ is not nn.Module.__hash__:
            raise SourceError(
                f"`{name or kind.__name__}`: expected a layer that equals itself alone, but "
                f"`{kind.__name__}` defines `__eq__` or `__hash__`, and torch counts layers that "
                "are equal as one; give that method another name"
            )
        met.add(id(part))
        inner = ((f"{name}.{n}".removeprefix("."), m) for n, m in part._modules.items())
        left += [(n, m) for n, m in inner if m is not None and id(m) not in met]


def _compiled_forward(part: nn.Module) -> Callable[..., Any] | None:
    """What `part.forward = torch.compile(part.forward)` compiled; None where nobody did."""
    own = vars(part).get("forward")
    before: Callable[..., Any] | None = getattr(own, "_torchdynamo_orig_callable", None)
    return before


def _take_back_forward(part: nn.Module) -> None:
    """Of a copy, whose compiled forward still computes with the original's weights."""
    before = _compiled_forward(part)
    if before is None:
        return
    function = getattr(before, "__func__", None)
    if function is type(part).forward:
        del part.forward
    else:
        part.forward = before if function is None else MethodType(function, part)


def _ended(name: str, what: str, error: SystemExit) -> str:
    return (
        f"`module:{name}`: {what} ended the program ({with_class(error)}), as code that reads the "
        'command line does; put that under `if __name__ == "__main__":`'
    )


def _factory(name: str) -> Callable[..., Any]:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise SourceError(f"`module:{name}`: expected `module:PACKAGE.MODULE:FACTORY`")
    try:
        with _working_directory_first():
            code = importlib.import_module(module_name)
    except SystemExit as error:
        raise SourceError(_ended(name, f"importing `{module_name}`", error)) from error
    except Exception as error:  # the user's code may raise anything
        raise SourceError(
            f"`module:{name}`: `{module_name}` cannot be imported "
            f"({with_class(error)}); it must be installed or lie in the "
            "working directory"
        ) from error
    factory = getattr(code, attribute, None)
    if factory is None:
        close = nearest(attribute, [known for known in vars(code) if not known.startswith("_")])
        raise SourceError(f"`module:{name}`: `{module_name}` has no `{attribute}`{close}")
    if not callable(factory):
        raise SourceError(f"`module:{name}`: expected a function or class, got {factory!r}")
    function: Callable[..., Any] = factory
    return function


def preprocessing_in(
    module: nn.Module, options: SourceOptions
) -> tuple[Preprocessing, dict[str, str]]:
    """How images are fed as the module's `pretrained_cfg` says, and what of it is said there."""
    cfg = getattr(module, "pretrained_cfg", None)
    cfg = dict(cfg) if isinstance(cfg, Mapping) else {}
    size = options.size_of(cfg.get("input_size") or (3, 224, 224))
    if cfg:
        said = [name for name, value in cfg.items() if value is not None]
        return preprocessing_of(cfg, size), stated("the module's pretrained_cfg", said)
    plain = Preprocessing()
    mean, std = for_channels(plain.mean, size[0]), for_channels(plain.std, size[0])
    return Preprocessing(input_size=size, mean=mean, std=std), {}


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """Lets imports see the working directory, as `python -m` does and a console script does not."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
