from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from sbldlib.panels.theming import PICTURE_CLASS, TURNED, dark_style, picture_image
from sbldlib.plots import theme

DARK_GROUND = "#111111"  # JupyterLab's
LEAST_CONTRAST = 3.0  # of graphics: WCAG 2.1, 1.4.11
# hue-rotate(180deg) as the Filter Effects specification writes it: cos = -1, sin = 0.
LUMINANCE = np.array([0.213, 0.715, 0.072])
HALF_TURN = 2 * LUMINANCE[None, :] - np.eye(3)
LINES = {name: getattr(theme, name) for name in ("INK", "GREY", "BLUE", "ORANGE", "GREEN", "PINK")}
LINES |= {method: colour for method, (colour, _) in theme.METHOD_STYLE.items()}
LINES |= {"SKY": theme.SKY}


def turned(colour: str) -> np.ndarray:
    """The colour as a dark page shows it, each channel in [0, 1]."""
    return np.clip(HALF_TURN @ (1 - np.array(to_rgb(colour))), 0, 1)


def luminance(rgb: np.ndarray) -> float:
    """Relative luminance by WCAG 2.1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_a_picture_is_narrower_than_its_page_and_has_the_class():
    image = picture_image(640)
    assert image.layout.width == "640px"
    assert image.layout.max_width == "calc(100% - 4px)"
    assert image._dom_classes == (PICTURE_CLASS,) and image.format == "png"


def test_the_style_turns_pictures_alone_on_the_dark_pages_of_every_host():
    selectors, rule = re.fullmatch(r"<style>(.*) \{ (.*); \}</style>", dark_style().value).groups()
    assert rule == f"filter: {TURNED}"
    assert selectors.split(", ") == [
        f'[data-jp-theme-light="false"] .{PICTURE_CLASS}',
        f"html[theme=dark] .{PICTURE_CLASS}",
        f".vscode-dark .{PICTURE_CLASS}",
    ]


def test_the_style_takes_no_room():
    assert dark_style().layout.display == "none"


def test_white_turns_black_and_a_hue_stays():
    assert TURNED == "invert(1) hue-rotate(180deg)"  # what `turned` computes
    assert turned("#ffffff") == pytest.approx(0) and turned("#000000") == pytest.approx(1)
    red, green, blue = turned(theme.BLUE)
    assert blue > green > red


@pytest.mark.parametrize("name", LINES)
def test_lines_can_be_told_from_a_dark_ground(name):
    assert contrast(turned(LINES[name]), np.array(to_rgb(DARK_GROUND))) >= LEAST_CONTRAST


def test_what_the_raster_says_can_be_told_apart_when_turned():
    skipped, ran = (turned(colour) for colour in theme.RAN_OR_SKIPPED.colors)
    assert contrast(skipped, ran) >= LEAST_CONTRAST
