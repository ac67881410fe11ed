"""Names and errors on a page: text, whatever they hold."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import ipywidgets as widgets
import pytest
from hostile import NAMES
from plotted import made_summary
from small import gpt, random_batches

from sbldlib import Budget, SensitivityData, TrainConfig, make_optimizer
from sbldlib.errors import printable
from sbldlib.panels import LiveTraining
from sbldlib.panels.comparison_explorer import ComparisonExplorer
from sbldlib.panels.estimators_explorer import EstimatorsExplorer
from sbldlib.panels.picture import LivePicture
from sbldlib.panels.sensitivity_explorer import SensitivityExplorer
from sbldlib.panels.words import announced, html_text

SHORT = [name for name in NAMES if len(name) < 100]
DATA = SensitivityData(
    values=(3.0, 1.0, 2.0),
    standard_errors=(0.1,) * 3,
    num_batches=2,
    samples=((3.1, 2.9), (0.9, 1.1), (2.2, 1.8)),
)


class Page(HTMLParser):
    """The tags and the text of a piece of a page."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_text_on_a_page_is_text(name):
    page = Page(announced(name))
    assert page.tags == ["div"]
    assert page.text == printable(name)
    assert Page(html_text(name)).tags == []
    json.dumps(html_text(name)).encode()  # as it goes to the browser


def every_html(widget) -> list[str]:
    """What the HTML widgets in there show."""
    found = [widget.value] if isinstance(widget, widgets.HTML) else []
    for child in getattr(widget, "children", ()):
        found += every_html(child)
    return found


@pytest.mark.parametrize("name", SHORT, ids=range(len(SHORT)))
def test_an_arm_of_a_comparison(name):
    explorer = ComparisonExplorer(made_summary(names={"sbld": name}))
    explorer.reference.value = name
    page = Page(explorer.line.value)
    assert page.tags == ["div"] and printable(name) in page.text
    labels = [label for label, _ in explorer.reference.options]
    assert printable(name) in labels
    json.dumps(labels).encode()


@pytest.mark.parametrize("name", SHORT, ids=range(len(SHORT)))
def test_the_name_of_a_measurement(name):
    explorer = SensitivityExplorer({name: DATA})
    assert explorer.method.value == name
    json.dumps([label for label, _ in explorer.method.options]).encode()


@pytest.mark.parametrize("name", SHORT, ids=range(len(SHORT)))
@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_names_of_two_estimators(name):
    explorer = EstimatorsExplorer({name: DATA, "plain": DATA})
    page = Page(explorer.line.value)
    assert page.tags == ["div"] and f"A {printable(name)}, B plain" in page.text
    explorer.first.value = "plain"
    assert "Not drawn: A and B are both plain" in explorer.text
    json.dumps([label for label, _ in explorer.second.options]).encode()


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_what_a_run_raised(name):
    class Broken:
        def batch(self, step, micro_batch=0):
            if step:
                raise OSError(name)
            return random_batches(1)[0]

    model = gpt()
    panel = LiveTraining(
        model,
        Broken(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=3)),
        dropping=False,
    )
    with pytest.raises(OSError):
        panel.start("inline")
    shown = [Page(source) for source in every_html(panel.board.widget)]
    assert {tag for page in shown for tag in page.tags} <= {"b", "br", "div", "small", "style"}
    assert printable(f"Failed after 1 steps: OSError: {name}.") in {page.text for page in shown}


@pytest.mark.parametrize("name", SHORT, ids=range(len(SHORT)))
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_change_over_the_live_picture(name):
    picture = LivePicture(["sbld"], 3, 20)
    picture.add(0, [], [(5, "method", "sbld", name), (15, name, 0.0, 1.0)])
    assert picture.png().startswith(b"\x89PNG")
    labels = picture.figure.axes[0].texts
    assert len(labels) == 2
    assert not any(label._preprocess_math(label.get_text())[1] for label in labels)
