from __future__ import annotations

import pytest

from irbin.html.words import printable, sentence, together, with_code


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\x7f", "\x85", "\ud800", "\uffff"])
def test_what_no_page_may_hold_is_replaced(bad: str) -> None:
    assert printable(f"a{bad}b") == "a\N{REPLACEMENT CHARACTER}b"
    printable(bad).encode()


def test_other_characters_stay() -> None:
    text = "a\tb\n貓 😀 é −×"
    assert printable(text) == text


def test_code_is_marked_and_everything_escaped() -> None:
    assert with_code("a `b <c>` d & e") == ('a <code class="short">b &lt;c&gt;</code> d &amp; e')
    assert with_code("`" + "x" * 31 + "`") == f"<code>{'x' * 31}</code>"


def test_units_stay_with_their_numbers() -> None:
    gap = "\N{NO-BREAK SPACE}"
    assert together("1.24 MB, 4.2 ± 1.5 %") == f"1.24{gap}MB, 4.2{gap}±{gap}1.5{gap}%"
    assert together("1,000 images, 3 Bs") == "1,000 images, 3 Bs"


def test_a_line_becomes_a_sentence() -> None:
    assert sentence("binary: all") == "Binary: all."
    assert sentence("") == "."
