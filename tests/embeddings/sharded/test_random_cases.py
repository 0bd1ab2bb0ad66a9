"""Options in any combination train sharded as on one process."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import (
    Combine,
    Compression,
    CompressionMethod,
    Gradient,
    TableOptions,
)
from tests.embeddings.sharded.cases import Case, strategies
from tests.embeddings.sharded.jobs import train_locally, train_sharded
from tests.embeddings.sharded.matrix import Option
from tests.embeddings.sharded.ranks import Ranks
from tests.embeddings.sharded.test_options import compare_tables, compare_vectors
from tests.embeddings.sharded.test_refusals import refuse

OPTIMIZERS = st.builds(
    SparseOptimizer,
    name=st.sampled_from(SparseOptimizerName),
    lr=st.just(0.02),
    eps=st.just(1e-2),
    weight_decay=st.sampled_from([0.0, 0.1]),
    clip_value=st.sampled_from([None, 0.3]),
)
PLAIN = st.builds(
    TableOptions,
    padding_idx=st.sampled_from([None, 0, -1]),
    max_norm=st.sampled_from([None, 0.7]),
    norm_type=st.sampled_from([1.0, 2.0]),
    scale_grad_by_freq=st.booleans(),
    gradient=st.sampled_from(Gradient),
    frozen=st.sampled_from([False, False, False, True]),
    admit_after=st.sampled_from([0, 0, 2]),
)
COMPRESSED = st.builds(
    TableOptions,
    max_norm=st.sampled_from([None, 0.7]),
    scale_grad_by_freq=st.booleans(),
    gradient=st.sampled_from(Gradient),
    compression=st.builds(
        Compression,
        method=st.just(CompressionMethod.quotient_remainder),
        divisor=st.sampled_from([None, 2]),
        combine=st.sampled_from(Combine),
    ),
)
CASES = st.builds(
    Case,
    pooling=st.sampled_from(Pooling),
    weighted=st.booleans(),
    options=st.one_of(PLAIN, PLAIN, COMPRESSED),
    optimizer=OPTIMIZERS,
    embedding_dim=st.sampled_from([2, 4, 6]),
    num_embeddings=st.integers(1, 15),
    shared=st.booleans(),
    real_rows=st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(any),
    max_length=st.integers(1, 5),
    num_steps=st.just(2),
)


@given(case=CASES, strategy=st.sampled_from(Strategy))
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_any_combination_trains_as_on_one_process(
    case: Case, strategy: Strategy, two_ranks: Ranks
):
    try:
        refuse(case, strategy)
    except ConfigError:
        assume(False)
    option, expected = Option("any", case), train_locally(case)
    got = two_ranks.run(train_sharded, case, strategies(strategy))
    vectors = [
        np.concatenate([rank.vectors[step] for rank in got])
        for step in range(case.num_steps)
    ]
    evaluated = np.concatenate([rank.evaluated for rank in got])
    compare_vectors(option, vectors, evaluated, expected)
    compare_tables(option, got, expected)
