"""The types that vectors and their gradients travel in between processes.

What is sent is rounded; what is computed with stays float32. Ids, weights of ids and
data-parallel tables' gradients travel as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from fbgemm_gpu.quantize_comm import QuantizationContext, QuantizedCommCodec
from fbgemm_gpu.split_embedding_configs import SparseType
from torchrec.distributed.types import CommOp, QuantizedCommCodecs
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import CommunicationConfig, Precision, Strategy
from dlrm.distributed.plan import TablePlan
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name

Codecs: TypeAlias = dict[str, QuantizedCommCodecs]

_OPERATIONS = (
    CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL,
    CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER,
    CommOp.SEQUENCE_EMBEDDINGS_ALL_TO_ALL,
)
_SUMMED = frozenset({Strategy.row_wise, Strategy.table_row_wise, Strategy.grid})
"""Strategies under which pooled vectors are added up on their way."""
_INT8_WIDTH = 4
"""fbgemm's rows of int8 are padded to multiples of it on a GPU, and not on a CPU."""
# A mean's gradients are small: one over the batch's size, which fp16 would flush to 0.
# A power of two changes no digit; the largest that can travel is then 64.
_GRADIENT_SCALE = 2.0**10


def codecs_for(config: CommunicationConfig, widths: Sequence[int]) -> Codecs | None:
    """Return what torchrec encodes and decodes with; None where nothing is rounded.

    Args:
        config: What travels in which type.
        widths: Columns of the parts of all tables of one collection.
    """
    if config.forward is config.backward is Precision.fp32:
        return None
    row_dim = math.gcd(*widths)
    codecs = QuantizedCommCodecs(
        forward=_Codec(config.forward, row_dim=row_dim),
        backward=_Codec(config.backward, row_dim=row_dim, scale=_GRADIENT_SCALE),
    )
    return {operation.name: codecs for operation in _OPERATIONS}


def refuse_communication(
    config: CommunicationConfig, table: TableConfig, plan: TablePlan
) -> None:
    """Check that a table's vectors can travel as ``config`` says.

    Raises:
        ConfigError: They cannot.
    """
    own = (("forward", config.forward), ("backward", config.backward))
    key = next((name for name, kind in own if kind is Precision.int8), None)
    if key is None or plan.strategy is Strategy.data_parallel:
        return
    asked = f"sharding.communication.{key}=int8"
    if isinstance(table, EmbeddingBagConfig) and plan.strategy in _SUMMED:
        raise ConfigError(
            f"{asked} does not go with table '{table_name(table.name)}' under "
            f"{plan.strategy.value}: its vectors are added up on their way, and rows "
            f"of int8 have a scale each. Use bf16 or fp16, or table_wise, column_wise "
            f"or data_parallel."
        )
    odd = [part.num_columns for part in plan.parts if part.num_columns % _INT8_WIDTH]
    if odd:
        raise ConfigError(
            f"{asked} needs widths in multiples of {_INT8_WIDTH}, but a part of table "
            f"'{table_name(table.name)}' has {odd[0]} columns. Use bf16 or fp16, or "
            f"change the table's width."
        )


class _Codec(QuantizedCommCodec):
    """fbgemm's codec, whose rows of int8 are as wide as all tables allow."""

    def __init__(
        self, precision: Precision, *, row_dim: int, scale: float = 1.0
    ) -> None:
        """Encode in ``precision``; fp16 after multiplying by ``scale``."""
        super().__init__(SparseType(precision.value), row_dim=row_dim)
        self._scale = scale if precision is Precision.fp16 else 1.0

    def encode(
        self, input_tensor: torch.Tensor, ctx: QuantizationContext | None = None
    ) -> torch.Tensor:
        """Return what travels."""
        if self._scale != 1.0:
            input_tensor = input_tensor * self._scale
        encoded: torch.Tensor = super().encode(input_tensor, ctx)
        return encoded

    def decode(
        self, input_tensor: torch.Tensor, ctx: QuantizationContext | None = None
    ) -> torch.Tensor:
        """Return float32 values of what came."""
        decoded: torch.Tensor = super().decode(input_tensor, ctx)
        # Not fbgemm's own loss scale, which divides before it widens.
        return decoded if self._scale == 1.0 else decoded / self._scale

    def create_context(self) -> QuantizationContext:
        """Return the width of the rows that share a scale."""
        return QuantizationContext(row_dim=self._row_dim)
