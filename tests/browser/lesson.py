"""What the tests' own notebooks show: a small GPT against full depth, and a translator."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from small import Source, gpt

from sbldlib import Budget, SensitivityData, TrainConfig, make_optimizer
from sbldlib.data.translation import make_vocabulary
from sbldlib.losses import evaluate_loss
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.panels import LiveTraining
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.translation.translator import Translator

NUM_LAYERS, MEASURED_BLOCK = 8, (0, 7)
SENSITIVITY = SensitivityData(
    values=(2.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.5), standard_errors=(0.01,) * NUM_LAYERS
)
STEPS_PER_SECOND = 50.0  # leaves the browser its share of two cores


def make_panel(steps: int, *, seed: int = 0, every_steps: int = 0, **options: Any) -> LiveTraining:
    """A panel whose rival trains at full depth; it begins with sbld at a saving of 0.25."""
    model = gpt(NUM_LAYERS, seed=seed)
    unseen = [Source(seed=9).batch(step) for step in range(4)]
    known: dict[str, Any] = {"against": "none", "steps_per_second": STEPS_PER_SECOND}
    return LiveTraining(
        model,
        Source(seed),
        make_optimizer(model, learning_rate=3e-3),
        config=TrainConfig(budget=Budget(steps=steps), evaluate_every=20),
        sensitivity_data=SENSITIVITY,
        evaluations={"validation_loss": partial(evaluate_loss, batches=unseen)},
        checkpoints=CheckpointConfig(every_steps=every_steps, keep_last=20),
        **{**known, **options},
    )


@cache
def translator() -> Translator:
    """One that has not learnt a word: who looks at whom is chance, and still adds up to 1."""
    vocabulary = make_vocabulary("word")
    sizes = {"vocabulary_size": vocabulary.vocabulary_size, "context_length": 16}
    model = EncoderDecoder.from_preset("tiny", **sizes)
    return Translator(model=model, vocabulary=vocabulary, language="de")
