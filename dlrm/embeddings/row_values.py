"""What a lookup sees of rows: stored values, limited in norm, zero until admitted.

Shape suffixes: N = ids, D = width, R = rows of all tables.
"""

from __future__ import annotations

import torch

from dlrm.embeddings.admission import Admission
from dlrm.embeddings.kernel_options import KernelOptions
from dlrm.embeddings.renorm import rescale
from dlrm.embeddings.row_rounding import read_rows


class RowValues:
    """The rows of one weight as lookups see them. Reading changes nothing.

    A row beyond ``max_norm`` is seen as it will be stored by the next step on it.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        options: KernelOptions,
        admission: Admission | None,
    ) -> None:
        """Look at ``weight`` [R, D]."""
        self._weight, self._options, self._admission = weight, options, admission
        self.are_stored = (
            weight.dtype == torch.float32
            and options.max_norm is None
            and admission is None
        )
        """Whether every row is seen as it is stored, in float32."""

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the values of ``rows`` [N], float32 [N, D]."""
        values = read_rows(self._weight, rows)
        max_norm = self._options.max_norm
        if max_norm is not None:
            values = rescale(
                values, max_norm=max_norm, norm_type=self._options.norm_type
            )
            values = values.to(self._weight.dtype).float()
        if self._admission is not None:
            admitted = self._admission.admitted(rows)
            values.masked_fill_(~admitted[:, None], 0.0)
        return values
