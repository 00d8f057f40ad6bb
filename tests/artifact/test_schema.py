import json

import pytest

from irbin.artifact.schema import Manifest, manifest_from_json, manifest_to_json, stored_dtype
from irbin.errors import ArtifactError
from irbin.program.types import TensorType


@pytest.fixture
def manifest(exported):
    return Manifest("0.1.0", "float16", exported.source, exported.plan)


def test_json_and_back_is_the_same_manifest(manifest):
    value = json.loads(json.dumps(manifest_to_json(manifest)))
    assert manifest_from_json(value, "config.json") == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "config.json: expected format version 1, got 2"),
        ({"format_version": "1"}, "expected format version 1, got '1'"),
        ({"format_version": True}, "expected format version 1, got True"),
        ({"format_version": None}, "expected format version 1, got None"),
        ({"format": "gguf"}, "expected a packed folder's manifest"),
        ({"float_dtype": "float8"}, "at `float_dtype`"),
        ({"source": None}, "at `source`"),
        ({"plan": {}}, "at `plan.options`"),
    ],
    ids=str,
)
def test_another_manifest_is_refused(manifest, change, message):
    with pytest.raises(ArtifactError, match=message):
        manifest_from_json({**manifest_to_json(manifest), **change}, "config.json")


def test_no_object_is_refused():
    with pytest.raises(ArtifactError, match="expected a packed folder's manifest"):
        manifest_from_json([], "config.json")


def test_only_float32_is_stored_as_something_else():
    assert stored_dtype(TensorType("float32", (1,)), "bfloat16") == "bfloat16"
    assert stored_dtype(TensorType("int64", (1,)), "float16") == "int64"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interpolation", "foo"),
        ("input_size", [3, -1, 32]),
        ("std", [0, 0, 0]),
        ("crop_pct", -5),
        ("mean", [1e308, 1e308, 1e308]),
    ],
)
def test_images_that_cannot_be_fed_so_are_refused_at_loading(manifest, field, value):
    changed = json.loads(json.dumps(manifest_to_json(manifest)))
    changed["source"]["preprocessing"][field] = value
    with pytest.raises(ArtifactError, match=rf"^x: at `source.preprocessing`: `{field}`: expected"):
        manifest_from_json(changed, "x")
