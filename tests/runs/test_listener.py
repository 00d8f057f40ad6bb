from __future__ import annotations

import pytest

from irbin.errors import UsageError
from irbin.runs.listener import NOBODY, Listener


def test_keywords_are_who_is_told_and_none_hears_nothing() -> None:
    said: list[str] = []
    listener = Listener.of(say=said.append, report=None)
    listener.say("a line")
    assert said == ["a line"]
    assert (listener.report, listener.stage) == (NOBODY.report, NOBODY.stage)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("epochs", "; the recipe's go into `overrides`: {'epochs': …}"), ("tell", "")],
)
def test_another_keyword_is_refused_and_a_knob_says_where_it_goes(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        Listener.of(**{name: 3})  # type: ignore[typeddict-item]
    listed = "`report`, `on_epoch`, `say`, `stage`"
    assert str(error.value) == f"expected {listed} to tell, got `{name}`{hint}"
