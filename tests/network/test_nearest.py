import pytest

from irbin.network.nearest import nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("resnet19", ["resnet18", "vit"], "; nearest: `resnet18`"),
        ("resnet19", ["vit"], ""),
        ("resnet19", [], ""),
        ("ab", ["abc", "abc"], "; nearest: `abc`"),
    ],
)
def test_nearest_names(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_at_most_three_are_named() -> None:
    assert nearest("layer", [f"layer{i}" for i in range(9)]).count("`") == 6
