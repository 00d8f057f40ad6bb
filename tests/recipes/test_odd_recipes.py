"""Recipes that are no plain lines of names and values."""

from __future__ import annotations

import pytest

from irbin.errors import UsageError
from irbin.recipes.request import resolve_recipe

ODD = {
    "1: 2\n": "the name '1', which is no plain text",
    "~: 2\n": "the name '~'",
    "yes: 1\n": "the name 'yes'",
    '"\\n": 1\n': "which is no plain text",
    "epochs: 1\nepochs: 2\n": "`epochs` twice",
    "epochs: " + "9" * 5000 + "\n": "digits",
    "[" * 3000: "too deep",
    "aa: &a x\nopt: *a\n": "an alias",
    "epochs: true\n": "`epochs`: Input should be a number, got True",
    "epochs: 1000000000000000000000\n": "`epochs`: Input should be less than or equal to",
    "lr: 1000000000000000000000\n": "`lr`: Input should be less than or equal to",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", ODD)
def test_it_is_told_in_a_line(tmp_path, text):
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve_recipe(str(tmp_path / "odd.yaml"), {}, converted=True)
    assert ODD[text] in str(caught.value)
    assert "\n" not in str(caught.value)
