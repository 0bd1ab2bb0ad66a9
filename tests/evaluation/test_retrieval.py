from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from dlrm.data.catalogue import NOT_FOUND, Catalogue
from dlrm.evaluation.document_names import document_names
from dlrm.evaluation.retrieval import RetrievalJudge
from dlrm.evaluation.retrieval_predictions import (
    RetrievalPredictions,
    concatenate_retrieval,
    rank_documents,
)
from tests.data.documents import document_schema, rows_of

NUM_QUERIES, NUM_DOCUMENTS = 6, 23


def vectors(seed=0):
    """Return whole numbers, which tie often and whose sums are exact."""
    random = np.random.default_rng(seed)
    queries = random.integers(-2, 3, (NUM_QUERIES, 2))
    documents = random.integers(-2, 3, (NUM_DOCUMENTS, 2))
    own = random.integers(0, NUM_DOCUMENTS, NUM_QUERIES)
    own[2] = NOT_FOUND
    return queries, documents, own


@pytest.mark.parametrize("max_scores", [1, 7, 6 * 5, 6 * 23, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_lists_are_those_of_sorting_all_scores(max_scores, seed):
    queries, documents, own = vectors(seed)
    found = rank_documents(
        torch.from_numpy(queries).float(),
        torch.from_numpy(documents).float(),
        torch.from_numpy(own),
        num_listed=4,
        max_scores=max_scores,
    )
    for i in range(NUM_QUERIES):
        scores = [int(np.dot(queries[i], d)) for d in documents]
        best = sorted(range(NUM_DOCUMENTS), key=lambda j, s=scores: (-s[j], j))[:4]
        assert found.top[i].tolist() == best
        assert found.top_scores[i].tolist() == [scores[j] for j in best]
        if own[i] == NOT_FOUND:
            assert found.num_better[i] == -1
            continue
        assert found.num_better[i] == sum(s > scores[own[i]] for s in scores)
        assert found.num_tied[i] == sum(s == scores[own[i]] for s in scores)


@pytest.mark.parametrize("max_scores", [3 * 8, 3 * 64, 10_000])
def test_equal_vectors_tie_wherever_they_stand(max_scores):
    generator = torch.Generator().manual_seed(0)
    document = torch.randn(1, 33, generator=generator)
    others = torch.randn(200, 33, generator=generator) - 10 * document
    documents = torch.cat([document, others[:77], document, others[77:], document])
    queries = document + 0.1 * torch.randn(3, 33, generator=generator)
    own = torch.tensor([0, 78, 202])
    found = rank_documents(queries, documents, own, num_listed=3, max_scores=max_scores)
    assert found.num_better.tolist() == [0, 0, 0]
    assert found.num_tied.tolist() == [3, 3, 3]
    assert found.top.tolist() == [[0, 78, 202]] * 3


def test_a_list_is_no_longer_than_the_catalogue():
    queries, documents, own = vectors()
    found = rank_documents(
        torch.from_numpy(queries).float(),
        torch.from_numpy(documents).float(),
        torch.from_numpy(own),
        num_listed=100,
        max_scores=10,
    )
    assert found.top.shape == (NUM_QUERIES, NUM_DOCUMENTS)
    assert all(sorted(row) == list(range(NUM_DOCUMENTS)) for row in found.top.tolist())


def predicted(row_ids=(0, 1, 2, 3)):
    return RetrievalPredictions(
        row_ids=np.array(row_ids),
        documents=np.array([0, 1, NOT_FOUND, 1]),
        num_better=np.array([0, 3, -1, 0]),
        num_tied=np.array([1, 2, 0, 1]),
        top_documents=np.array([[0, 1]] * 4, dtype=np.int32),
        top_scores=np.array([[2.0, 1.0]] * 4, dtype=np.float32),
        labels=np.array([1, 1, 1, 0], dtype=np.float32),
        weights=np.array([1, 2, 1, 1], dtype=np.float32),
    )


@pytest.fixture
def judge():
    rows = rows_of((0, 1, [3, 2], 0.0), (0, 5, [], 0.5))
    keys, counts = np.array([4, 9]), np.array([2, 1])
    catalogue = Catalogue(("s1", "s2", "d1"), keys, counts, rows)
    names = pa.array(["one", "five"])
    return RetrievalJudge(document_schema(), catalogue, names, (1, 4, 10))


def test_metrics_are_of_clicks_alone_weighted_and_count_strange_documents(judge):
    metrics = judge.metrics(predicted())
    assert metrics["num_examples"] == 4
    assert metrics["num_queries"] == 3
    assert metrics["num_documents"] == 2
    assert metrics["num_unknown_documents"] == 1
    assert metrics["recall_at_1"] == pytest.approx(1 / 4)
    # Ranks 4 and 5 are tied, so half of the second click is among the first 4.
    assert metrics["recall_at_4"] == pytest.approx((1 + 2 * 0.5) / 4)
    assert metrics["recall_at_10"] == pytest.approx(3 / 4)
    assert metrics["mrr"] == pytest.approx((1 + 2 * (1 / 4 + 1 / 5) / 2) / 4)
    assert {"ndcg_at_4", "ndcg_at_10"} <= set(metrics)
    assert {*judge.logged} <= set(metrics)
    assert "1 of documents the catalogue has not" in judge.describe(metrics)


def test_without_clicks_metrics_are_undefined_with_the_reason(judge):
    found = predicted()
    found.labels[:] = 0
    metrics = judge.metrics(found)
    assert metrics["mrr"] is None
    assert metrics["undefined"]["recall_at_10"] == "no row is a click"
    assert "undefined" in judge.describe(metrics)


def test_predictions_name_documents_and_say_where_a_rows_own_stands(judge):
    table = pa.table(judge.predictions(predicted())).to_pydict()
    assert table["document"] == ["one", "five", None, "five"]
    assert table["rank"] == [1.0, 4.5, None, 1.0]
    assert table["found"] == [["one", "five"]] * 4
    assert table["scores"] == [[2.0, 1.0]] * 4
    scores = judge.scores(predicted())
    assert list(scores) == ["document_1", "score_1", "document_2", "score_2"]
    assert scores["document_2"].to_pylist() == ["five"] * 4


def test_parts_are_joined_by_row_without_padding():
    found = concatenate_retrieval([predicted((4, 5, -1, -1)), predicted((0, 1, 2, 3))])
    assert found.row_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.num_better.tolist() == [0, 3, -1, 0, 0, 3]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("s1", ["(row 1)", "(row 5)"]),
        ("s2", ["(row 3)|(row 2)", ""]),
        ("d1", ["(document 0)", "(document 1)"]),
    ],
)
def test_a_document_is_called_by_its_first_feature(
    judge, tmp_path, monkeypatch, first, expected
):
    catalogue = Catalogue((first,), judge.catalogue.keys, None, judge.catalogue.rows)
    monkeypatch.setattr(
        "dlrm.evaluation.document_names.FittedTables", lambda *_: NamelessTables()
    )
    names = document_names(catalogue, document_schema(), tmp_path)
    assert names.to_pylist() == expected


class NamelessTables:
    """Stands for tables whose values are hashed."""

    def keys(self, table):
        class Known:
            keys = pa.nulls(20, pa.large_string())

        return Known()
