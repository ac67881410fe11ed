"""Panels: widgets and one function over plain data; no training and no arithmetic in them."""

from .driver import choose_driver
from .live import LiveTraining
from .selftest import WidgetSelfTest

__all__ = ["LiveTraining", "WidgetSelfTest", "choose_driver"]
