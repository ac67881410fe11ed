"""Names that are more than a name to a page, a figure, a table or a terminal."""

from __future__ import annotations

NAMES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$x_",
    "$\\frac$",
    "a_b$ and $c",
    "_hidden",
    "[bold]loud[/bold]",
    "[/]",
    "\x1b[2J\x1b]0;title\x07",
    "a|b",
    "&lt;b&gt;",
    "*loud* _soft_ `code`",
    "![x](javascript:alert(1))",
    "two\nlines",
    "caf\udce9",
    "\u202egnp.exe",
    "x" * 5000,
)
