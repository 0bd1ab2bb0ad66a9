"""Texts that hold several ids, cut into lists."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.delimiters import BRACKETS

_INSIDE = r"(?s)^\s*[\[(](.*?),?\s*[\])]\s*$"
_AROUND_IDS = " \t\r\n'\""


def cut_texts(texts: pa.Array, delimiter: str) -> pa.ListArray:
    """Cut each text at ``delimiter``; null is an empty list.

    ``BRACKETS`` reads lists as JSON and pandas write them, ``["a", "b"]``, ``['a']`` or
    ``[1, 2]``: commas separate, and quotes around an id are no part of it.
    """
    if delimiter != BRACKETS:
        return pc.split_pattern(texts, delimiter)
    inside = pc.replace_substring_regex(texts, _INSIDE, r"\1")
    is_blank = pc.equal(pc.utf8_trim_whitespace(inside), "")
    lists = pc.split_pattern(
        pc.if_else(is_blank, pa.scalar(None, pa.string()), inside), ","
    )
    ids = pc.utf8_trim(pc.list_flatten(lists), _AROUND_IDS)
    return pa.ListArray.from_arrays(lists.offsets, ids)
