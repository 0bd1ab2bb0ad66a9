"""How a split's rows lie on disk: one fixed-size record a row, ids of bags beside it.

Shape suffixes: R = rows, N = dense columns, F1 = one-hot features, F2 = multi-hot
features and the classes where rows have any, V = ids in all bags together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.config.schema import FeatureSchema
from dlrm.data.storage.rows import EncodedRows

INT = np.dtype("<i4")
FLOAT = np.dtype("<f4")
START = np.dtype("<i8")

RECORDS_FILE = "rows.bin"
VALUES_FILE = "bags.bin"
STARTS_FILE = "bag_starts.bin"
WEIGHTS_FILE = "bag_weights.bin"


def shard_name(index: int) -> str:
    """Return the folder of a split's shard, relative to the split's folder."""
    return f"shard_{index:05d}"


def split_of_rows(name: str) -> str | None:
    """Return the split whose encoded rows a dataset's file holds, else None."""
    split, _, rest = name.partition("/")
    return split if rest.startswith("shard_") else None


def side_name(index: int) -> str:
    """Return the Parquet file beside a shard, relative to the split's folder."""
    return f"side/part_{index:05d}.parquet"


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Words of 4 bytes: label | weight | dense N | one-hot ids F1 | bag lengths F2.

    A row is one record, so that a row picked at random costs one place in memory.
    """

    num_dense: int
    num_one_hot: int
    num_multi_hot: int
    """Bags a row, that of its classes included."""
    weighted: bool
    """Whether any feature has a weight an id."""

    @classmethod
    def of(cls, schema: FeatureSchema) -> RecordLayout:
        """Return the layout of a schema's rows."""
        return cls(
            num_dense=schema.num_dense,
            num_one_hot=len(schema.one_hot),
            num_multi_hot=len(schema.multi_hot) + schema.num_label_bags,
            weighted=any(feature.weighted for feature in schema.sparse),
        )

    @property
    def num_words(self) -> int:
        """Words of one record."""
        return 2 + self.num_dense + self.num_one_hot + self.num_multi_hot

    @property
    def files(self) -> tuple[str, ...]:
        """The files of one shard."""
        bags = (VALUES_FILE, STARTS_FILE) if self.num_multi_hot else ()
        return (RECORDS_FILE, *bags, *((WEIGHTS_FILE,) if self.weighted else ()))

    def pack(self, rows: EncodedRows) -> np.ndarray:
        """Return the rows' records, int32 [R, num_words].

        Raises:
            ValueError: An array has another shape or type than this layout; ids wider
                than 32 bits are refused, never cut.
        """
        self._check(rows)
        first_id, first_bag = self._borders()
        records = np.empty((len(rows), self.num_words), dtype=INT)
        floats = records.view(FLOAT)
        floats[:, 0] = rows.labels
        floats[:, 1] = rows.weights
        floats[:, 2:first_id] = rows.dense
        records[:, first_id:first_bag] = rows.one_hot
        records[:, first_bag:] = rows.bag_lengths
        return records

    def unpack(
        self,
        records: np.ndarray,
        bag_values: np.ndarray,
        bag_weights: np.ndarray | None,
    ) -> EncodedRows:
        """Return records [R, num_words] as rows: views, nothing is copied."""
        first_id, first_bag = self._borders()
        floats = records.view(FLOAT)
        return EncodedRows(
            labels=floats[:, 0],
            weights=floats[:, 1],
            dense=floats[:, 2:first_id],
            one_hot=records[:, first_id:first_bag],
            bag_lengths=records[:, first_bag:],
            bag_values=bag_values,
            bag_weights=bag_weights,
        )

    def no_rows(self) -> EncodedRows:
        """Return none of the schema's rows."""
        weights = np.zeros(0, dtype=FLOAT) if self.weighted else None
        records = np.zeros((0, self.num_words), dtype=INT)
        return self.unpack(records, np.zeros(0, dtype=INT), weights)

    def _borders(self) -> tuple[int, int]:
        first_id = 2 + self.num_dense
        return first_id, first_id + self.num_one_hot

    def _check(self, rows: EncodedRows) -> None:
        num_rows = len(rows)
        num_values = int(rows.bag_lengths.sum(dtype=np.int64))
        expected = {
            "labels": (rows.labels, FLOAT, (num_rows,)),
            "weights": (rows.weights, FLOAT, (num_rows,)),
            "dense": (rows.dense, FLOAT, (num_rows, self.num_dense)),
            "one_hot": (rows.one_hot, INT, (num_rows, self.num_one_hot)),
            "bag_lengths": (rows.bag_lengths, INT, (num_rows, self.num_multi_hot)),
            "bag_values": (rows.bag_values, INT, (num_values,)),
        }
        if rows.bag_weights is not None:
            expected["bag_weights"] = (rows.bag_weights, FLOAT, (num_values,))
        for name, (array, dtype, shape) in expected.items():
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(
                    f"EncodedRows.{name} must be {dtype.name} {list(shape)}, "
                    f"but it is {array.dtype.name} {list(array.shape)}."
                )
        if self.weighted != (rows.bag_weights is not None):
            raise ValueError(
                f"EncodedRows.bag_weights must be "
                f"{'an array' if self.weighted else 'None'} for this schema, but it is "
                f"{type(rows.bag_weights).__name__}."
            )
