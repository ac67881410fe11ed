"""Text on a page, as it is: nothing in it is a tag, and what changes is announced."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..errors import printable

CLOSE = "line-height: 1.4"  # a page's widgets have more


def html_text(text: str) -> str:
    """The text as it is, for a page: nothing in it is a tag, an entity or a control character."""
    return escape(printable(text))


def announced(text: str) -> str:
    """A line of a panel, which screen readers announce when it changes."""
    return f'<div role="status" style="line-height: 1.4">{html_text(text)}</div>'


def headline(text: str) -> str:
    """The first line of a panel: it stands out, and is announced when it changes."""
    return f'<div style="{CLOSE}" role="status"><b>{html_text(text)}</b></div>'


def lines(texts: list[str]) -> str:
    """Lines of small print, one below the other; empty ones are left out."""
    shown = "<br>".join(html_text(text) for text in texts if text)
    return f'<div style="{CLOSE}">{shown}</div>'


def written(samples: Mapping[str, Mapping[int, str]]) -> str:
    """What each model wrote, before and after, to be opened.

    Args:
        samples: arm -> number of steps done -> text.
    """
    parts = [
        f"<p style='margin: 4px 0 0'><b>{html_text(name)}, after {num_steps} steps</b></p>"
        f"<pre style='margin: 0; white-space: pre-wrap'>{paragraphs(text)}</pre>"
        for name, texts in samples.items()
        for num_steps, text in sorted(texts.items())
    ]
    if not parts:
        return ""
    return f"<details><summary>What the model writes</summary>{''.join(parts)}</details>"


def paragraphs(text: str) -> str:
    """Text of several lines, each as it is."""
    return "\n".join(html_text(line) for line in text.splitlines())
