"""Rows of tables that a training step reads and changes, counted from real batches."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch

from dlrm.config.schema import FeatureSchema
from dlrm.data.loading.loader import BatchLoader

_BATCHES = 8
_BYTES = 4
"""Of a float32."""


def traffic_of(rows: BatchLoader, schema: FeatureSchema) -> dict[str, Any]:
    """Return means over a few shuffled batches of what a step does to the tables.

    ``ids`` are rows read, one for each id; ``distinct`` are rows changed, each once
    however often it was read. ``width`` is that of the largest table, which has
    ``largest_rows``.
    """
    features = {feature.name: feature for feature in schema.sparse}
    batches = rows.batches(0)
    ids = distinct = read_bytes = changed_bytes = examples = count = 0
    for batch in islice(batches, _BATCHES):
        count, examples = count + 1, examples + len(batch)
        of_table: dict[str, list[torch.Tensor]] = {}
        for bags in batch.sparse.values():
            parts = bags.values().split(bags.length_per_key())
            for name, part in zip(bags.keys(), parts, strict=True):
                of_table.setdefault(features[name].table, []).append(part)
        for table, parts_of_table in of_table.items():
            width = schema.tables[table][0].feature.embedding_dim or 0
            used = torch.cat(parts_of_table)
            changed = used.unique().numel()
            ids, distinct = ids + used.numel(), distinct + changed
            read_bytes += used.numel() * width * _BYTES
            changed_bytes += changed * width * _BYTES
    _close(batches)
    largest = max(
        (users[0] for users in schema.tables.values()),
        key=lambda user: user.num_embeddings * (user.feature.embedding_dim or 0),
        default=None,
    )
    return {
        "examples": examples / count,
        "ids": ids / count,
        "distinct": distinct / count,
        "read_bytes": read_bytes / count,
        "changed_bytes": changed_bytes / count,
        "width": largest.feature.embedding_dim or 0 if largest else 0,
        "largest_rows": largest.num_embeddings if largest else 0,
    }


def _close(batches: Any) -> None:
    close = getattr(batches, "close", None)
    if close is not None:
        close()
