"""Sensitivities as pandas tables and back; here, for the rooms below do without pandas."""

from __future__ import annotations

import pandas as pd

from ..records import SensitivityData

COLUMNS = ("layer", "value", "standard_error", "method", "unit", "num_batches", "iteration")
SAMPLE = "batch "


def sensitivity_frame(data: SensitivityData) -> pd.DataFrame:
    """One row a layer; one column a batch, "batch 0", ..., where the data hold samples."""
    frame = pd.DataFrame(
        {
            "layer": range(data.num_layers),
            "value": data.values,
            "standard_error": data.standard_errors,
            "method": data.method,
            "unit": data.unit,
            "num_batches": data.num_batches,
            "iteration": pd.array([data.iteration] * data.num_layers, dtype="Int64"),
        }
    )
    batches = zip(*data.samples, strict=True)
    columns = {f"{SAMPLE}{i}": samples for i, samples in enumerate(batches)}
    return frame.assign(**columns)


def sensitivity_from_frame(frame: pd.DataFrame) -> SensitivityData:
    """The data that `sensitivity_frame` turned into a table; its rows may have been reordered.

    Raises:
        ValueError: a column that is missing, layers that are not 0..L-1, or rows of more than one
            measurement.
    """
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise ValueError(f"columns {missing} are missing; sensitivity_frame writes {COLUMNS}")
    frame = frame.sort_values("layer")
    if frame["layer"].tolist() != list(range(len(frame))) or frame.empty:
        raise ValueError(f"layer={frame['layer'].tolist()} must be 0..L-1, each once")
    for name in ("method", "unit", "num_batches", "iteration"):
        if frame[name].nunique(dropna=False) > 1:
            found = frame[name].unique().tolist()
            raise ValueError(f"{name}={found}: one table holds one measurement; select one first")
    first = frame.iloc[0]
    batches = [name for name in frame.columns if str(name).startswith(SAMPLE)]
    batches.sort(key=lambda name: int(str(name).removeprefix(SAMPLE)))
    rows = frame[batches].itertuples(index=False) if batches else ()
    return SensitivityData(
        values=tuple(frame["value"]),
        standard_errors=tuple(frame["standard_error"]),
        method=str(first["method"]),
        unit=str(first["unit"]),
        num_batches=int(first["num_batches"]),
        iteration=None if pd.isna(first["iteration"]) else int(first["iteration"]),
        samples=tuple(tuple(row) for row in rows),
    )
