"""How sensitive each layer is: what skipping it, and nothing else, does.

[P] SBLD measures in a pre-analysis, after a few training iterations, how each layer changes the
training loss. The estimators are ours [O] or other published ones [S], METHOD section 1.
"""

from __future__ import annotations

from .agreement import Agreement, Stability, agreement, stability
from .convergence import convergence_sensitivities
from .estimate import (
    ESTIMATORS,
    LayerSensitivity,
    calculate_sensitivities,
    calculate_sensitivity,
    data_from_samples,
)
from .frontier import losses_under_dropping
from .measurement import Estimator, Loss, Measurement
from .ties import Ties, tied_pairs

__all__ = [
    "ESTIMATORS",
    "Agreement",
    "Estimator",
    "LayerSensitivity",
    "Loss",
    "Measurement",
    "Stability",
    "Ties",
    "agreement",
    "calculate_sensitivities",
    "calculate_sensitivity",
    "convergence_sensitivities",
    "data_from_samples",
    "losses_under_dropping",
    "stability",
    "tied_pairs",
]
