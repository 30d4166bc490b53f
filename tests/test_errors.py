"""What the messages of other libraries become in ours."""

from __future__ import annotations

import pytest

from restorevar.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("no room"), "no room"),
        (RuntimeError("\n  keys differ\nthis one\n"), "keys differ"),
        (KeyError("name"), "'name'"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line
