"""The native implementations: which there are, which is active, and whether there are any.

`IRBIN_KERNELS=name` forces one; `reference` forces plain NumPy. Where the extension module was not
built, or cannot be loaded, irbin computes with the reference, and `notice` says why.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from irbin.errors import UsageError
from irbin.kernels import missing

VARIABLE = "IRBIN_KERNELS"
REFERENCE = "reference"
_SLOWLY = "packed networks run on the NumPy reference, slowly"

_log = logging.getLogger(__name__)


def _load() -> tuple[ModuleType | None, str]:
    """The extension module, or why there is none."""
    try:
        spec = importlib.util.find_spec(missing.MODULE)
        if spec is not None and spec.origin is not None:
            missing.refuse_damaged(Path(spec.origin))
        return importlib.import_module(missing.MODULE), ""
    except ImportError as error:
        return None, missing.why(error, Path(__file__).parent)


_module, _reason = _load()


@dataclass(frozen=True)
class Implementation:
    """A named set of kernels for one family of processors. Made here, read by reports."""

    name: str
    """What `IRBIN_KERNELS` takes."""
    description: str
    """How it computes."""
    needs: tuple[str, ...]
    """Instructions it uses beyond the architecture's baseline."""
    supported: bool
    """Whether this processor and its operating system have them."""
    active: bool
    """Whether it computes now."""


class _State:
    active: str | None = None
    """The name of the active implementation; None until one is needed."""
    has_warned: bool = False


def module() -> Any:
    """The extension module.

    Raises:
        UsageError: it was not built, or cannot be loaded.
    """
    if _module is None:
        raise UsageError(f"expected native kernels, but {_reason}")
    return _module


def implementations() -> tuple[Implementation, ...]:
    """All of them, fastest first, the reference last.

    Raises:
        UsageError: see `active`.
    """
    now = active()
    rows = [] if _module is None else _module.implementations()
    compiled = [
        Implementation(name, description, tuple(needs), supported, name == now)
        for name, description, needs, supported in rows
    ]
    words = "plain NumPy, the definition; never chosen while another one is there"
    return (*compiled, Implementation(REFERENCE, words, (), True, now == REFERENCE))


def active() -> str:
    """The implementation that computes: the forced one, else the fastest supported.

    Raises:
        UsageError: `IRBIN_KERNELS` names none, or one that this processor does not run.
    """
    if _State.active is None:
        use(os.environ.get(VARIABLE, "") or _fastest())
    assert _State.active is not None, "use sets it"
    return _State.active


def use(name: str) -> None:
    """Makes an implementation the active one, in the whole process.

    Raises:
        UsageError: there is none of that name, or this processor does not run it.
    """
    known = {REFERENCE: True}
    if _module is not None:
        known |= {row[0]: row[3] for row in _module.implementations()}
    if name not in known:
        names = ", ".join(f"`{n}`" for n in known)
        raise UsageError(f"`{VARIABLE}`: expected one of {names}, got `{name}`")
    if not known[name]:
        raise UsageError(
            f"`{VARIABLE}`: this processor does not run `{name}`; see `irbin kernels` for "
            "those it does"
        )
    if name != REFERENCE:
        module().activate(name)
    _State.active = name


@contextmanager
def using(name: str) -> Iterator[None]:
    """`use` for a while.

    Raises:
        UsageError: see `use`.
    """
    before = active()
    use(name)
    try:
        yield
    finally:
        use(before)


def is_native() -> bool:
    """Whether compiled code computes, and not the reference."""
    return active() != REFERENCE


def is_fast_at_floats() -> bool:
    """Whether float convolutions are worth computing here, and not by torch.

    Not where each fused multiply-add is a function's call (`portable`) or several of NumPy's.
    """
    return any(one.active and one.needs for one in implementations())


def has_bfloat16() -> bool:
    """Whether float convolutions can be computed in bfloat16 here."""
    return is_native() and bool(module().has_bfloat16())


def notice() -> str:
    """What a user must know about the kernels; '' if nothing."""
    return f"{_SLOWLY}: {_reason}" if _module is None else ""


def warn() -> None:
    """Says `notice`, once in a process: to those who listen to irbin's log, else as a warning."""
    if _State.has_warned or not notice():
        return
    _State.has_warned = True
    if logging.getLogger("irbin").handlers:
        _log.warning(notice())
    else:
        warnings.warn(notice(), stacklevel=3)  # where `load` was called


def compiler() -> str:
    """What compiled the native kernels, as in `GCC 12.2.0`; '' where there are none."""
    return "" if _module is None else str(_module.compiler())


def n_calls() -> dict[str, int]:
    """How often each native implementation has been run in this process."""
    return {} if _module is None else dict(_module.count_calls())


def thread_pool() -> str:
    """Whose threads the kernels run on: `own`, or `none` without native kernels."""
    return "none" if _module is None else str(_module.thread_pool())


def _fastest() -> str:
    if _module is None:
        return REFERENCE
    return next(str(row[0]) for row in _module.implementations() if row[3])


def in_words() -> str:
    """The kernels that run packed networks, and why no others where that is known."""
    why = notice()
    return f"{active()} kernels" + (f" ({why})" if why else "")
