"""What nodes on constants and sizes alone give for one image: constants too, once it is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from irbin.program.types import INT, Node, TensorType
from irbin.runtime.arrays import Array, as_array
from irbin.runtime.calls import node_call, plainly
from irbin.runtime.engine import Engine
from irbin.runtime.operators import operation


def settled(engine: Engine, known: Mapping[str, Any]) -> dict[str, Array]:
    """Results of nodes that the image does not reach, by name.

    Args:
        engine: of the network.
        known: sizes by name, for one image.
    """
    values: dict[str, Any] = {**engine.work.constants, **known}
    made: dict[str, Array] = {}
    for node in engine.program.nodes:
        if not _is_tensor(node) or not engine.is_run(node):
            continue
        if not all(name in values for name in node.refs()):
            continue
        results: dict[str, Any] = {}
        with plainly():
            node_call(node, operation(node.op), values)(results, 1)
        made[node.name] = values[node.name] = np.ascontiguousarray(as_array(results[node.name]))
    return made


def _is_tensor(node: Node) -> bool:
    return isinstance(node.type, TensorType) and node.type.dtype != INT
