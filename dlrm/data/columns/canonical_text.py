"""Canonical text: the one form in which every raw id is counted, looked up and hashed.

Whole numbers are "17" whether a column holds integers or, because some were missing,
floats; booleans are "true" and "false"; strings stand as they are; missing is "".
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import DataError

_CODED = pa.dictionary(pa.int32(), pa.string())


def encode_text(values: pa.Array, what: str) -> pa.DictionaryArray:
    """Return each value's canonical text as a dictionary array without nulls.

    The dictionary may hold a text twice, as where null and "" both occur.

    Raises:
        DataError: Values of this type are no ids; ``what`` names the column.
    """
    if values.type == _CODED and _are_all_used(values):
        texts = values.dictionary.fill_null("")
        return pa.DictionaryArray.from_arrays(values.indices, texts)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    _refuse_lists(values.type, what)
    try:
        encoded = values.dictionary_encode(null_encoding="encode")
    except pa.ArrowNotImplementedError as error:
        # Extension types, such as pandas's intervals.
        raise DataError(
            f"{what} must hold text or numbers, but it holds {values.type} values. "
            "Convert the column, or leave it out."
        ) from error
    texts = canonical_text(encoded.dictionary, what)
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(pa.int32()), texts.fill_null("")
    )


def canonical_text(values: pa.Array, what: str) -> pa.Array:
    """Return strings; null (and NaN) stays null.

    Raises:
        DataError: Values of this type are no ids, or bytes are not UTF-8.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_floating(kind):
        return _text_of_floats(values)
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{what} must hold text or numbers, but {kind} values cannot become text "
            f"({error}). Convert the column, or leave it out."
        ) from error


def _are_all_used(values: pa.DictionaryArray) -> bool:
    """Say whether each text occurs, and each row has one."""
    if values.indices.null_count:
        return False
    uses = np.bincount(values.indices.to_numpy(), minlength=len(values.dictionary))
    return bool(uses.all())


def _refuse_lists(kind: pa.DataType, what: str) -> None:
    if pa.types.is_nested(kind):
        raise DataError(
            f"{what} must hold one value a row, but it holds {kind} values. Set "
            f"multi_hot=true for a feature whose column holds lists."
        )


def _text_of_floats(values: pa.Array) -> pa.Array:
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    # 2**63 itself does not fit int64; beyond it a float's own text is as good.
    is_whole = (np.abs(numbers) < 2.0**63) & (numbers == np.trunc(numbers))
    whole = pa.array(np.where(is_whole, numbers, 0).astype(np.int64))
    texts = pc.if_else(pa.array(is_whole), whole.cast("string"), values.cast("string"))
    return pc.if_else(pa.array(np.isnan(numbers)), pa.scalar(None, pa.string()), texts)
