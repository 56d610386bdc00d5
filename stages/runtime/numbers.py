"""Numbers that may be undefined. JSON has no NaN: they are NaN in arrays and None in headers."""

import numpy as np


def mean_defined(values: list[float]) -> float | None:
    """Mean of the values that are defined; None if there are none."""
    array = np.array(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else None


def defined(value: float) -> float | None:
    """``value``; None for NaN."""
    return None if np.isnan(value) else float(value)
