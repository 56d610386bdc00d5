"""HDF5 attributes: text of fixed length, because a damaged heap of variable-length text can stop HDF5 for ever."""

from typing import Any

import h5py
import numpy as np


def to_stored(value: Any) -> Any:
    """``value`` as written to an attribute: text and lists of text as fixed-length UTF-8, all else unchanged."""
    texts = [value] if isinstance(value, str) else value
    if not is_text_list(texts):
        return value
    encoded = [text.encode() for text in texts]
    array = np.array(encoded, dtype=h5py.string_dtype("utf-8", max(*map(len, encoded), 1)))
    return array.reshape(()) if isinstance(value, str) else array


def from_stored(value: Any) -> Any:
    """An attribute as h5py reads it, as a plain Python value; older files have text of variable length."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, bytes):
        return plain.decode()
    if isinstance(plain, list) and plain and isinstance(plain[0], bytes):
        return [text.decode() for text in plain]
    return plain


def is_text_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


def read_attributes(item: h5py.HLObject) -> dict[str, Any]:
    """All attributes of a file, group or array."""
    return {name: from_stored(value) for name, value in item.attrs.items()}


def has_text_of_any_length(item: h5py.HLObject) -> bool:
    """Whether an attribute of ``item`` has text of variable length, found without reading any value."""
    for index in range(h5py.h5a.get_num_attrs(item.id)):
        kind = h5py.h5a.open(item.id, index=index).get_type()
        if kind.detect_class(h5py.h5t.VLEN) or (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()):
            return True
    return False
