"""What a torch.compile that was cut off leaves in its cache: kernels that can never be loaded.

torch writes a compiled kernel in its place, and takes a file that is there for a whole one
(`_worker_compile_cpp` in torch/_inductor/codecache.py, 2.14). After a Ctrl-C or a full disk in the
middle, every later run that needs this kernel fails; so the file is removed and made anew.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger("irbin")
_LIBRARY = re.compile(r"(/[^\s:]+\.(?:so|dylib)): ")


def made_anew(work: Callable[[], None]) -> None:
    """Does `work`, which compiles; again where a kernel of the cache cannot be loaded, without it.

    Args:
        work: may be done again after it failed.

    Raises:
        Exception: what `work` raises for another reason, or of a file that was removed before.
    """
    removed: set[Path] = set()
    while True:
        try:
            return work()
        except Exception as error:  # dynamo, inductor: each wraps it in its own
            bad = _kernels_in(str(error)) - removed
            if not bad:
                raise
            removed |= bad
            for file in bad:
                file.unlink(missing_ok=True)  # another process may have met it too
                _log.warning("%s, left by a torch.compile that was cut off, is made anew", file)


def _kernels_in(message: str) -> set[Path]:
    """The files of torch.compile's cache that a message says cannot be loaded."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    place = Path(cache_dir()).resolve()
    files = {Path(name).resolve() for name in _LIBRARY.findall(message)}
    return {file for file in files if place in file.parents}
