import pytest
import torch

from irbin.errors import ArtifactError
from irbin.program.types import DTYPES, Dtype
from irbin.program.vocabulary import signatures
from irbin.runtime.operators import dtype, operation


@pytest.mark.parametrize("name", sorted(signatures()))
def test_every_operator_of_the_vocabulary_can_run_here(name):
    assert callable(operation(name))


@pytest.mark.parametrize("name", ["aten.relu_.default", "aten.rand.default", "eval", "irbin.x.y"])
def test_no_other_can(name):
    with pytest.raises(ArtifactError, match="is not one of those a program may name"):
        operation(name)


@pytest.mark.parametrize("name", DTYPES)
def test_element_types_are_torchs(name):
    assert dtype(Dtype(name)) is getattr(torch, name)
