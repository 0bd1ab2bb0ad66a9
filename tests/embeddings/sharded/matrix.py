"""Every option of a table and where it works: the source of the tests and of the docs.

An option has a case; the tests train it under every strategy that does not refuse it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.features import Pooling
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import (
    Combine,
    Compression,
    CompressionMethod,
    Gradient,
    TableDtype,
    TableOptimizer,
    TableOptions,
)
from dlrm.embeddings.sharded.refusals import ROW_BY_ROW, refusal
from dlrm.embeddings.tables import is_sequence
from tests.embeddings.sharded.cases import Case
from tests.embeddings.sharded.forms import FORMS

_Name = SparseOptimizerName


@dataclass(frozen=True)
class Option:
    """A row of the table of options."""

    name: str
    """As in the config; the key that ``refusal`` knows where it refuses it."""
    case: Case
    tolerance: float = 1e-5
    """Of vectors and values after all steps, beside one process's."""


def _options(name: str, **options: object) -> Option:
    return Option(name, Case(options=TableOptions(**options)))


def _optimizer(name: SparseOptimizerName, **own: object) -> Option:
    own = {"lr": 0.1, "eps": 1e-3, **own}
    return Option(
        f"optimizer.name={name.value}",
        Case(optimizer=SparseOptimizer(name=name, **own)),
    )


def _compressed(method: CompressionMethod, combine: Combine) -> Option:
    rows = 6 if method is CompressionMethod.multi_probe else None
    compression = Compression(method=method, combine=combine, num_rows=rows)
    return Option(
        f"compression.method={method.value}, combine={combine.value}",
        Case(options=TableOptions(compression=compression), num_embeddings=20),
    )


_ADAGRAD = SparseOptimizer(name=_Name.adagrad, lr=0.1, eps=1e-3)
_ADAM = SparseOptimizer(name=_Name.adam, lr=0.1, eps=1e-3)

OPTIONS: tuple[Option, ...] = (
    Option("num_embeddings", Case(num_embeddings=5)),
    Option("num_embeddings=1", Case(num_embeddings=1, max_length=2)),
    Option("embedding_dim", Case(embedding_dim=6)),
    Option(
        "embedding_dim not divided by the number of processes", Case(embedding_dim=3)
    ),
    Option("given rows", Case(given=True)),
    Option("device=cpu", Case()),
    *(Option(f"pooling={pooling.value}", Case(pooling=pooling)) for pooling in Pooling),
    *(
        Option(
            f"pooling={pooling.value}, weighted", Case(pooling=pooling, weighted=True)
        )
        for pooling in Pooling
    ),
    Option("empty bags", Case(max_length=1)),
    Option("ragged slices, padding rows", Case(real_rows=(6, 2))),
    Option("an empty slice", Case(real_rows=(6, 0))),
    Option("a table of one feature", Case(shared=False)),
    Option("a table that features share", Case(shared=True)),
    *(Option(f"bags as {form}", Case(form=form)) for form in FORMS),
    _options("padding_idx", padding_idx=3),
    _options("padding_idx below 0", padding_idx=-2),
    Option(
        "padding_idx, pooling=max",
        Case(pooling=Pooling.max, options=TableOptions(padding_idx=3)),
    ),
    _options("max_norm", max_norm=0.8),
    _options("norm_type", max_norm=1.0, norm_type=1.0),
    Option(
        "max_norm, pooling=max",
        Case(pooling=Pooling.max, options=TableOptions(max_norm=0.8)),
    ),
    _options("scale_grad_by_freq", scale_grad_by_freq=True),
    Option(
        "scale_grad_by_freq, pooling=max",
        Case(pooling=Pooling.max, options=TableOptions(scale_grad_by_freq=True)),
    ),
    Option(
        "gradient=sparse",
        Case(options=TableOptions(gradient=Gradient.sparse), optimizer=_ADAM),
    ),
    Option(
        "gradient=dense",
        Case(options=TableOptions(gradient=Gradient.dense), optimizer=_ADAM),
    ),
    _options("dtype=float32", dtype=TableDtype.float32),
    *(
        Option(
            f"dtype={dtype.value}",
            Case(options=TableOptions(dtype=dtype, stochastic_rounding=False)),
            tolerance=tolerance,
        )
        for dtype, tolerance in (
            (TableDtype.float16, 4e-3),
            (TableDtype.bfloat16, 3e-2),
        )
    ),
    Option(
        "stochastic_rounding",
        Case(options=TableOptions(dtype=TableDtype.bfloat16)),
        tolerance=6e-2,
    ),
    *(
        _options(f"init.name={name.value}", init=EmbeddingInit(name=name, scale=0.3))
        for name in InitName
    ),
    _options("frozen", frozen=True),
    *(_optimizer(name) for name in _Name),
    Option(
        "optimizer.weight_decay",
        Case(optimizer=dataclasses.replace(_ADAGRAD, weight_decay=0.1)),
    ),
    Option(
        "optimizer.clip_value",
        Case(optimizer=dataclasses.replace(_ADAGRAD, clip_value=0.2)),
    ),
    Option(
        "optimizer.clip_value, pooling=mean",
        Case(
            pooling=Pooling.mean,
            optimizer=dataclasses.replace(_ADAGRAD, clip_value=0.2),
        ),
    ),
    _options("optimizer.lr", optimizer=TableOptimizer(lr=0.02)),
    _options(
        "a table's own optimizer", optimizer=TableOptimizer(name=_Name.adagrad, eps=0.1)
    ),
    _options("admit_after", admit_after=2),
    *(
        _compressed(method, combine)
        for method in CompressionMethod
        if method is not CompressionMethod.none
        for combine in Combine
    ),
)


TORCH_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "num_embeddings": ("num_embeddings", "num_embeddings=1"),
    "embedding_dim": (
        "embedding_dim",
        "embedding_dim not divided by the number of processes",
    ),
    "padding_idx": ("padding_idx", "padding_idx below 0", "padding_idx, pooling=max"),
    "max_norm": ("max_norm", "max_norm, pooling=max"),
    "norm_type": ("norm_type",),
    "scale_grad_by_freq": ("scale_grad_by_freq", "scale_grad_by_freq, pooling=max"),
    "mode": tuple(f"pooling={pooling.value}" for pooling in Pooling),
    "sparse": ("gradient=sparse", "gradient=dense"),
    "_weight": ("given rows",),
    "_freeze": ("frozen",),
    "include_last_offset": ("bags as offsets", "bags as offsets with the last"),
    "device": ("device=cpu",),
    "dtype": ("dtype=float32", "dtype=float16", "dtype=bfloat16", "dtype=float64"),
    "input": (
        "bags as padded rows",
        "bags as lists",
        "bags as pandas column",
        "empty bags",
    ),
    "offsets": ("bags as offsets",),
    "per_sample_weights": (
        *(f"pooling={pooling.value}, weighted" for pooling in Pooling),
        "gradient of per_sample_weights",
    ),
}
"""Arguments of the constructors and of ``forward`` of ``torch.nn.Embedding`` and
``torch.nn.EmbeddingBag``, and the rows they stand in."""

OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    **{
        name: TORCH_ARGUMENTS[name]
        for name in ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
    },
    "gradient": TORCH_ARGUMENTS["sparse"],
    "dtype": TORCH_ARGUMENTS["dtype"],
    "stochastic_rounding": ("stochastic_rounding",),
    "init": tuple(f"init.name={name.value}" for name in InitName),
    "optimizer": (
        *(f"optimizer.name={name.value}" for name in _Name),
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.clip_value",
        "optimizer.clip_value, pooling=mean",
        "a table's own optimizer",
    ),
    "frozen": ("frozen",),
    "pretrained": ("given rows",),
    "admit_after": ("admit_after",),
    "compression": tuple(
        option.name for option in OPTIONS if option.name.startswith("compression")
    ),
    "sharding": ("sharding.strategy",),
}
"""Keys of ``tables.<table>``, and the rows they stand in."""


def refused(option: Option, strategy: Strategy) -> str | None:
    """Return why the strategy refuses the option."""
    names, schema = [option.name, option.name.split(", ")[0]], option.case.schema
    if option.case.options.max_norm is not None:
        names.append("max_norm")
    if any(is_sequence(g) for g, fs in schema.groups.items() if fs[0].table == "a"):
        names.append(ROW_BY_ROW)
    return next((why for name in names if (why := refusal(name, strategy))), None)
