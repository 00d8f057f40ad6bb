"""The training tests' tiny network."""

from __future__ import annotations

from tests.training.conftest import make_network as make_network
