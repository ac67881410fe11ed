from __future__ import annotations

from sbldlib.panels import WidgetSelfTest


def test_the_text_follows_the_slider_and_the_slider_comes_back():
    selftest = WidgetSelfTest()
    selftest.slider.value = 7
    assert "slider at 7." in selftest.text.value
    assert selftest.responds() and selftest.slider.value == 7


def test_a_kernel_whose_callbacks_are_lost_does_not_respond():
    selftest = WidgetSelfTest()
    selftest.slider.unobserve_all()
    assert not selftest.responds()


def test_the_browsers_echo_is_told():
    selftest = WidgetSelfTest()
    assert not selftest.browser_answered and "browser" not in selftest.text.value
    selftest._echo.value = selftest._sent.value
    assert selftest.browser_answered and "The browser answers" in selftest.text.value
