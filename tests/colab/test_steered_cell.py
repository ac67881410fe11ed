"""The live panel in a cell that awaits it, steered by a page's own messages while it does.

On the kernel of this environment, and on the one that Colab has: ipykernel 6 handles one message
after the other, so that a widget moved during a cell would act only after it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from colab.page import Page, open_page

from sbldlib.training.ledger import read_ledger

TESTS = Path(__file__).parents[1]
COLAB = Path(sys.prefix) / "colab"
EXPECTED = {
    "main": None,
    "colab": {"ipykernel": "6.17.1", "ipywidgets": "7.7.1", "IPython": "7.34.0"},
}
NUM_LAYERS, LONG, SHORT = 6, 5000, 100
SETUP = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
from small import gpt, random_batches
from sbldlib import Budget, TrainConfig, make_optimizer
from sbldlib.panels import LiveTraining
from sbldlib.panels.driver import choose_driver

class Paced:
    def __init__(self):
        self.batches = random_batches(5)
    def batch(self, step, micro_batch=0):
        time.sleep(0.01)
        return self.batches[step % len(self.batches)]

def make_panel(steps, **options):
    model = gpt({NUM_LAYERS})
    config = TrainConfig(budget=Budget(steps=steps))
    options = {{"saving": 0.25, **options}}
    return LiveTraining(model, Paced(), make_optimizer(model), config=config, **options)
"""
NAMES = ("dropping", "saving", "pause", "step", "chunk", "stop")


@dataclass(frozen=True)
class Steered:
    """A page, the name of its kernel's packages, and a panel's widgets.

    Attributes:
        widgets: name -> id.
        began: how much the kernel had told before this panel was made.
    """

    page: Page
    stack: str
    widgets: dict[str, str] = field(default_factory=dict)
    began: int = 0

    def make_panel(self, arguments: str) -> Steered:
        """A panel that has not begun, as `panel` in the kernel."""
        began = len(self.page.told)
        assert self.page.outcome(self.page.run(f"panel = make_panel({arguments})")) == ""
        ids = ", ".join(f"{name!r}: panel.board.{name}.model_id" for name in NAMES)
        return Steered(self.page, self.stack, self.page.evaluate(f"{{{ids}}}"), began)

    def shows(self, name: str, trait: str):
        """What the kernel last told of a widget's trait."""
        return self.page.state[self.widgets[name]].get(trait)

    def wait_for_label(self, name: str, text: str) -> None:
        self.page.wait_until(
            f"{name} is labelled {text!r}", lambda: text in str(self.shows(name, "description"))
        )

    def wait_for_text(self, text: str) -> None:
        """Wait until the kernel has told a text of this panel's."""
        told = self.page.told
        self.page.wait_until(
            f"the panel says {text!r}",
            lambda: any(text in str(value) for _, _, value in told[self.began :]),
        )

    def answered(self, message: str) -> None:
        """Wait until the kernel is done with a widget's message; the page holds back the next."""
        self.page.wait_until("an answer to the widget", lambda: self.page.is_answered(message))


@pytest.fixture(scope="module", params=list(EXPECTED))
def kernel(request):
    """A kernel in which `make_panel` stands ready."""
    stack = COLAB if request.param == "colab" else None
    if stack is not None and not stack.exists():
        pytest.skip("its packages are not here: make test-colab installs them")
    with open_page(stack) as page:
        assert page.outcome(page.run(SETUP)) == ""
        yield Steered(page, request.param)


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a kernel over TCP says so


def test_the_kernel_is_the_one_that_is_meant_and_gets_its_driver(kernel):
    names = EXPECTED["colab"]
    found = kernel.page.evaluate(
        f"{{name: __import__(name).__version__ for name in {list(names)!r}}}"
    )
    driver = kernel.page.evaluate("choose_driver()")
    if kernel.stack == "colab":
        assert found == names and driver == "awaited"
    else:
        assert int(found["ipykernel"].partition(".")[0]) >= 7 and driver == "thread"


def holds_from_its_step_on(steps: list[dict], name: str, log: list[list]) -> None:
    """What a control was at each step is what its log says, and nothing in between."""
    changes = [(step, old, new) for step, changed, old, new in log if changed == name]
    ends = [step for step, _, _ in changes[1:]] + [len(steps)]
    assert all(values[name] == changes[0][1] for values in steps[: changes[0][0]])
    for (start, _, new), end in zip(changes, ends, strict=True):
        assert start < end, "it was in force at a step, before the cell ended"
        assert all(values[name] == new for values in steps[start:end])


def test_a_cell_that_awaits_is_steered_by_its_widgets(kernel):
    panel = kernel.make_panel(f"{LONG}")
    page = panel.page
    cell = page.run("await panel.start().wait()")
    later = page.run("print('the next cell', panel.record().outcome)")
    panel.wait_for_text("Training with uniform")

    panel.answered(page.move(panel.widgets["saving"], value=0.4))
    panel.wait_for_text("asked saving 0.40.")
    panel.answered(page.move(panel.widgets["dropping"], value=False))
    panel.wait_for_label("dropping", "off")
    panel.answered(page.move(panel.widgets["pause"], value=True))
    panel.wait_for_label("pause", "Resume")
    panel.answered(page.move(panel.widgets["pause"], value=False))
    panel.wait_for_label("pause", "Pause")
    panel.answered(page.move(panel.widgets["dropping"], value=True))
    panel.wait_for_label("dropping", "on")
    assert not page.is_answered(cell) and cell not in page.replies
    page.click(panel.widgets["stop"])

    assert page.outcome(cell) == ""
    assert page.outcome(later) == "the next cell stopped\n"
    assert page.replies[-2:] == [cell, later]
    log = page.evaluate("panel.controls.log")
    steps = page.evaluate("[dict(step.controls) for step in panel.record()]")
    layers = page.evaluate("[len(step.layers_run) for step in panel.record()]")
    assert len(steps) < LONG
    asked = [(name, new) for _, name, _, new in log]
    assert asked == [("saving", 0.4), ("dropping", False), ("dropping", True), ("stop", True)]
    holds_from_its_step_on(steps, "saving", log)
    holds_from_its_step_on(steps, "dropping", log)
    off, on = (step for step, name, _, _ in log if name == "dropping")
    assert layers[off:on] == [NUM_LAYERS] * (on - off) and min(layers) < NUM_LAYERS


def test_no_message_of_a_slider_in_motion_is_lost(kernel):
    panel = kernel.make_panel(f"{LONG}")
    page, slider = panel.page, panel.widgets["saving"]
    cell = page.run("asked = []; panel.board.saving.observe(asked.append, 'value')\n"
                    "await panel.start().wait()")  # fmt: skip
    panel.wait_for_text("Training with uniform")
    values = [round(0.05 * (number % 8), 2) for number in range(400)] + [0.4]
    sent = [page.move(slider, value=value) for value in values]
    page.wait_until("an answer to each", lambda: all(map(page.is_answered, sent)))
    assert not page.is_answered(cell)
    panel.wait_for_text("asked saving 0.40.")
    page.click(panel.widgets["stop"])
    assert page.outcome(cell) == ""
    assert page.evaluate("[change['new'] for change in asked]") == values
    log = page.evaluate("[entry for entry in panel.controls.log if entry[1] == 'saving']")
    assert log[-1][3] == 0.4
    assert page.evaluate("panel.record().steps[-1].controls['saving']") == 0.4


def test_an_interrupt_leaves_kernel_and_run_at_a_step(kernel, tmp_path):
    arguments = f"{SHORT}, folder={str(tmp_path)!r}"
    page = kernel.make_panel(arguments).page
    cell = page.run("await panel.start().wait()")
    page.wait_until("it trains", lambda: len(read_ledger(tmp_path)) >= 5)
    page.interrupt()
    said = page.outcome(cell)
    assert "CancelledError: Stopped after" in said and "saved: run it again to go on" in said
    outcome, num_steps = page.evaluate("[panel.record().outcome, len(panel.record())]")
    assert outcome == "stopped" and 5 <= num_steps < SHORT
    assert len(read_ledger(tmp_path)) == num_steps
    kernel.make_panel(arguments)
    assert page.outcome(page.run("await panel.start().wait()")) == ""
    going_on = "[panel.record().outcome, len(panel.record()), panel.record().resumes[0]['step']]"
    assert page.evaluate(going_on) == ["completed", SHORT, num_steps]


def test_a_click_runs_its_steps_where_nothing_else_works(kernel):
    panel = kernel.make_panel(f"{LONG}")
    page, done = panel.page, "len(panel.session.lead.records)"
    assert page.outcome(page.run("panel.start('chunked')\nawait panel.wait()")) == ""
    assert page.evaluate(done) == 0
    panel.answered(page.click(panel.widgets["chunk"]))
    assert page.evaluate(done) == 50
    panel.answered(page.move(panel.widgets["saving"], value=0.4))
    panel.answered(page.click(panel.widgets["step"]))
    assert page.evaluate(done) == 51
    panel.answered(page.click(panel.widgets["chunk"]))
    assert page.evaluate(done) == 101
    panel.wait_for_text("before step 102")
    panel.answered(page.click(panel.widgets["stop"]))
    assert page.evaluate("[panel.record().outcome, len(panel.record())]") == ["stopped", 101]
    assert page.evaluate("panel.controls.log[0]") == [50, "saving", 0.25, 0.4]
