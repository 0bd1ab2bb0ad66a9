"""Raw columns that stay beside the rows: for slices, groups and the names of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.data import DataConfig

ORIGIN_COLUMNS = ("__file", "__row")


def raw_columns(data: DataConfig) -> list[str]:
    """List the columns kept as they came: id, group, time, rate, ``data.keep``."""
    named = [
        data.id_column,
        data.group_column,
        data.time_column,
        data.keep_rate_column,
        *(data.keep or []),
    ]
    return list(dict.fromkeys(column for column in named if column is not None))


def kept_columns(data: DataConfig, small_features: Iterable[str]) -> tuple[str, ...]:
    """List all kept columns; small features join where ``data.keep`` is not set."""
    kept = raw_columns(data)
    if data.keep is None:
        for name in small_features:
            kept.append(data.sparse_features[name].column or name)
    return tuple(dict.fromkeys(kept))


def side_table(
    typed: pa.Table,
    data: DataConfig,
    kept: Sequence[str],
    types: Mapping[str, pa.DataType] | None = None,
    *,
    coded: bool = False,
) -> pa.Table:
    """Return ``__file``, ``__row`` and those ``kept`` columns that ``typed`` holds.

    Features that are kept but not among ``raw_columns`` appear as their canonical text,
    missing as null; ``coded`` leaves them dictionaries. Raw columns are cast to
    ``types`` where given.
    """
    columns = {name: typed[name] for name in ORIGIN_COLUMNS}
    features = {f.column or name: name for name, f in data.sparse_features.items()}
    for column in kept:
        if f"raw:{column}" in typed.column_names:
            values = typed[f"raw:{column}"]
            if types is not None:
                values = values.cast(types[column], safe=False)
            columns[column] = values
        elif f"sparse:{features.get(column)}" in typed.column_names:
            texts = _coded_text(typed[f"sparse:{features[column]}"])
            columns[column] = texts if coded else texts.cast(pa.string())
    return pa.table(columns)


def decoded_schema(side: pa.Schema) -> pa.Schema:
    """Return the schema of a side table whose features were not left coded."""
    fields = []
    for field in side:
        is_coded = pa.types.is_dictionary(field.type)
        if is_coded and field.name not in ORIGIN_COLUMNS:
            field = field.with_type(field.type.value_type)
        fields.append(field)
    return pa.schema(fields)


def unified_types(schemas: Iterable[pa.Schema]) -> dict[str, pa.DataType]:
    """Find for each raw column one type that holds every chunk's values."""
    found: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            if field.name.startswith("raw:"):
                column = field.name.removeprefix("raw:")
                found[column] = _common(found.get(column, pa.null()), field.type)
    return {
        column: pa.string() if pa.types.is_null(kind) else kind
        for column, kind in found.items()
    }


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    schemas = [pa.schema([("column", first)]), pa.schema([("column", second)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _coded_text(texts: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = texts.combine_chunks()
    is_missing = pc.equal(encoded.dictionary, "").to_numpy(zero_copy_only=False)
    if not is_missing.any():
        return encoded
    codes = encoded.indices.to_numpy()
    is_valid = np.ones(len(codes), dtype=np.bool_)
    for code in np.flatnonzero(is_missing):
        is_valid &= codes != code
    # The codes themselves need no copy.
    buffers = [np.packbits(is_valid, bitorder="little"), codes]
    indices = pa.Array.from_buffers(
        encoded.indices.type, len(codes), [pa.py_buffer(part) for part in buffers]
    )
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary, safe=False)
