import pytest

from irbin.errors import ArtifactError
from irbin.program.types import Node, Ref, TensorType


@pytest.mark.parametrize(
    "kind",
    [
        TensorType("float32", ("N", 3, 8, 8)),
        TensorType("uint8", ()),
        TensorType("int64", ("4*N", 0)),
        TensorType("int"),
    ],
    ids=str,
)
def test_text_and_back(kind):
    assert TensorType.parse(str(kind)) == kind


@pytest.mark.parametrize(
    "text", ["float32", "float31[1]", "float32[M]", "float32[1,]", "float32[__import__]", 7, None]
)
def test_other_text_is_refused(text):
    with pytest.raises(ArtifactError, match="expected"):
        TensorType.parse(text)


def test_static_means_no_batch():
    assert TensorType("float32", (3, 4)).is_static
    assert not TensorType("float32", ("2*N", 4)).is_static


def test_refs_are_found_in_order_inside_lists_and_keywords():
    node = Node("y", "op", (Ref("a"), (Ref("b"), (Ref("c"), 1))), {"k": Ref("a")})
    assert node.refs() == ("a", "b", "c", "a")
