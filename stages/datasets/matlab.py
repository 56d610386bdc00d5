"""Masks in MATLAB files, as the Semantic Boundaries Dataset (Hariharan et al. 2011) stores them."""

from pathlib import Path

import numpy as np

from stages.runtime.errors import BadInput

MATLAB = ".mat"
MOST_BYTES = 1 << 20  # the files of the dataset are smaller; compressed, they could become a thousand times as large
STRUCT, FIELD = "GTcls", "Segmentation"


def read_matlab_mask(path: Path) -> np.ndarray:
    """The class numbers (H, W) u8 in the field Segmentation of the struct GTcls; BadInput for anything else."""
    from scipy.io import loadmat

    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} is larger than {MOST_BYTES >> 20} MiB. Check that it is a mask.")
        mask = loadmat(path, variable_names=[STRUCT])[STRUCT][FIELD][0, 0]
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # scipy's reader raises whatever damaged bytes lead to
        raise BadInput(
            f"{path} contains no mask {STRUCT}.{FIELD} ({type(error).__name__}): it is damaged or of another format. "
            "Replace it."
        ) from error
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise BadInput(f"{path}: {STRUCT}.{FIELD} is not a table of bytes. Replace it.")
    return np.ascontiguousarray(mask)
