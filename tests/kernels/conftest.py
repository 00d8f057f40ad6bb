"""Every compiled implementation that this processor runs, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from irbin.kernels import native

NAMES = [
    one.name for one in native.implementations() if one.supported and one.name != native.REFERENCE
]


# of a module, not of a function: hypothesis would have it set up again for every example
@pytest.fixture(scope="module", params=NAMES)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the implementation that computes meanwhile."""
    with native.using(request.param):
        yield request.param
