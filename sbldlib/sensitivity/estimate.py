"""Every estimator behind one call: values with standard errors over paired batches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from ..dropping.skipping import attach
from ..errors import check_callable, check_choice, check_layers, check_positive_int, shown
from ..losses import evaluation_mode, next_token_loss
from ..records import SensitivityData
from ..signals import HeldSignals
from .activations import angular_distance, block_influence
from .gradients import dropbp, gradient_norm
from .loss_delta import loss_delta
from .measurement import Estimator, Loss, Measurement

ESTIMATORS: dict[str, Estimator] = {
    "loss_delta": Estimator(loss_delta, "nats per token"),
    "block_influence": Estimator(block_influence, "1 - cosine"),
    "angular_distance": Estimator(angular_distance, "half turns"),
    "gradient_norm": Estimator(gradient_norm, "squared gradient norm"),
    "dropbp": Estimator(dropbp, "squared change of gradient norms"),
}


class LayerSensitivity(NamedTuple):
    """One layer's sensitivity.

    Attributes:
        value: in the estimator's unit, nats per token for "loss_delta"; larger is more sensitive.
        standard_error: of the mean over paired batches, in the same unit.
    """

    value: float
    standard_error: float


def calculate_sensitivity(
    model: nn.Module,
    layer: int,
    *,
    batches: Sequence[Any],
    method: str = "loss_delta",
    loss: Loss = next_token_loss,
) -> LayerSensitivity:
    """One layer's sensitivity: loss(model without it) - loss(model), on the same batches.

    Args:
        model: a model whose residual blocks are found; measured in evaluation mode at its present
            weights.
        layer: in 0..L-1.
        batches: at least two, each as `loss` takes it.
        method: a name in `ESTIMATORS`; the default is the definition above.
        loss: mean loss of one batch.

    Raises:
        ValueError: a layer out of range, fewer than two batches, an unknown method, or a loss that
            is not finite.

    Source: reconstruction, METHOD section 1 [O]; of the other methods, see their docstrings.
    """
    data = _measure(model, batches, method, loss, layers=[layer])
    return LayerSensitivity(data.values[0], data.standard_errors[0])


def calculate_sensitivities(
    model: nn.Module,
    *,
    batches: Sequence[Any],
    method: str = "loss_delta",
    loss: Loss = next_token_loss,
    iteration: int | None = None,
    rows_at_once: int | None = None,
) -> SensitivityData:
    """Every layer's sensitivity; by "loss_delta" at about half of what L + 1 forwards cost.

    "loss_delta" computes once a batch what comes before the skipped layer, and runs the rest for
    several skipped layers side by side. "block_influence" and "angular_distance" take one forward
    a batch, "gradient_norm" one backward, "dropbp" L + 1 backwards.

    Args:
        model, batches, method, loss: as for `calculate_sensitivity`.
        iteration: training iteration of these weights, to be recorded.
        rows_at_once: rows of a batch that one block may be given at once by "loss_delta"; more
            take more memory. None: as many as the device works best with. 1 skips the layers one
            after another, as is needed by a loss that looks at activations between the blocks.

    Raises:
        ValueError: as `calculate_sensitivity`; rows_at_once below 1.
    """
    if rows_at_once is not None:
        rows_at_once = check_positive_int("rows_at_once", rows_at_once)
    return _measure(model, batches, method, loss, iteration=iteration, rows_at_once=rows_at_once)


def data_from_samples(
    samples: Sequence[Sequence[float]], *, method: str, unit: str, iteration: int | None = None
) -> SensitivityData:
    """Means with standard errors of [layer][batch], which are kept beside them.

    Raises:
        ValueError: fewer than two batches.
    """
    num_batches = len(samples[0])
    if num_batches < 2:
        raise ValueError(f"batches holds {num_batches}; a standard error needs at least 2")
    return SensitivityData(
        values=tuple(statistics.fmean(row) for row in samples),
        standard_errors=tuple(statistics.stdev(row) / math.sqrt(num_batches) for row in samples),
        method=method,
        unit=unit,
        num_batches=num_batches,
        iteration=iteration,
        samples=tuple(tuple(row) for row in samples),
    )


def _measure(
    model: nn.Module,
    batches: Sequence[Any],
    method: str,
    loss: Loss,
    *,
    layers: Sequence[int] | None = None,
    iteration: int | None = None,
    rows_at_once: int | None = None,
) -> SensitivityData:
    """Check what was given, then estimate in evaluation mode; the model is left as it was."""
    skipping = attach(model)
    check_choice("method", method, ESTIMATORS)
    check_callable("loss", loss, "a function of model and batch, such as next_token_loss")
    is_list = hasattr(batches, "__len__") and hasattr(batches, "__getitem__")
    if isinstance(batches, (str, bytes)) or not is_list:
        raise ValueError(
            f"batches={shown(batches)} must be a list of batches, for one is not enough"
        )
    if len(batches) < 2:
        raise ValueError(f"batches holds {len(batches)}; a standard error needs at least 2")
    if iteration is not None:
        iteration = check_positive_int("iteration", iteration, minimum=0)
    asked = range(skipping.num_layers) if layers is None else layers
    named = check_layers("layer", asked, skipping.num_layers)
    estimator = ESTIMATORS[method]
    with HeldSignals() as signals:
        measurement = Measurement(
            model=model,
            skipping=skipping,
            given_batches=batches,
            loss=loss,
            layers=named,
            rows_at_once=rows_at_once,
            signals=signals,
        )
        with evaluation_mode(model), skipping.full_depth():
            samples = estimator.measure(measurement)
    return data_from_samples(samples, method=method, unit=estimator.unit, iteration=iteration)
