"""Pictures that follow the page: drawn once, on white; a dark page turns them in the browser.

Lightness is inverted and the hue put back, so that blue stays blue; nothing is drawn twice.
"""

from __future__ import annotations

import ipywidgets as widgets

NARROW = {"max_width": "calc(100% - 4px)"}  # less the margins, so that a narrow page holds it
PICTURE_CLASS = "sbld-picture"
# Where a host writes that its page is dark: JupyterLab and Notebook, Colab, VS Code.
DARK_PAGES = ('[data-jp-theme-light="false"]', "html[theme=dark]", ".vscode-dark")
TURNED = "invert(1) hue-rotate(180deg)"


def picture_image(width_pixels: int) -> widgets.Image:
    """An empty PNG image of this width, narrower where the page is, which follows its theme.

    Args:
        width_pixels: as shown, in CSS pixels; at least 1.
    """
    image = widgets.Image(format="png", layout={"width": f"{width_pixels}px", **NARROW})
    image.add_class(PICTURE_CLASS)
    return image


def dark_style() -> widgets.HTML:
    """An invisible widget whose rule turns the pictures of a dark page; once in every panel."""
    rule = ", ".join(f"{page} .{PICTURE_CLASS}" for page in DARK_PAGES)
    style = f"<style>{rule} {{ filter: {TURNED}; }}</style>"
    return widgets.HTML(style, layout={"display": "none"})
