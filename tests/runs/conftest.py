"""The training tests' recipe and images."""

from __future__ import annotations

from tests.training.conftest import data as data
from tests.training.conftest import image_folder as image_folder
from tests.training.conftest import recipe as recipe
