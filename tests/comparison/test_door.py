from __future__ import annotations

import pytest
from comparison.tiny import PRICES, TINY, subject

from sbldlib.comparison import compare


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"comparison": "cpu"}, "comparison='cpu' must be a Comparison"),
        ({"folder": b"x"}, "folder=b'x' must be a path"),
        ({"folder": "{file}"}, "is a file; name a folder"),
        ({"subject": 3}, "subject=3 must be a Subject"),
        ({"prices": {}}, r"prices=\{\} must be Prices"),
        ({"stop_after": -1}, r"stop_after=-1 is outside \[0, inf\]"),
        ({"stop_after": float("nan")}, "stop_after=nan is outside"),
        ({"on_begin": "print"}, "on_begin='print' must be a function"),
        ({"on_step": 0}, "on_step=0 must be a function"),
    ],
)
def test_what_compare_cannot_take_is_named_and_nothing_is_made(tmp_path, wrong, message):
    (tmp_path / "file").write_text("x")
    given = {"comparison": TINY, "folder": tmp_path / "new", "prices": PRICES, "subject": subject()}
    given |= wrong
    if given["folder"] == "{file}":
        given["folder"] = str(tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        compare(given.pop("comparison"), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
