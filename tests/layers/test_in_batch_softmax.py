from __future__ import annotations

import math

import pytest
import torch

from dlrm.layers import in_batch_softmax as layer
from dlrm.layers.in_batch_softmax import in_batch_softmax

SIZE, WIDTH = 9, 3


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries, documents = torch.randn(2, SIZE, WIDTH, generator=generator)
    return {
        "queries_BD": queries,
        "documents_BD": documents,
        "keys_B": torch.tensor([5, 6, 5, 7, 8, 8, 5, 9, 9]),
        "is_query_B": torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 0]).bool(),
        "is_candidate_B": torch.tensor([1, 1, 1, 1, 1, 1, 0, 1, 0]).bool(),
    }


def losses_by_definition(given, log_q):
    queries = given["queries_BD"].double().tolist()
    documents = given["documents_BD"].double().tolist()
    keys, losses = given["keys_B"].tolist(), []
    for i in range(SIZE):
        if not given["is_query_B"][i]:
            continue
        scores = [
            sum(a * b for a, b in zip(queries[i], documents[j], strict=True)) - log_q[j]
            for j in range(SIZE)
        ]
        total = math.exp(scores[i])
        for j in range(SIZE):
            if given["is_candidate_B"][j] and keys[j] != keys[i]:
                total += math.exp(scores[j])
        losses.append(math.log(total) - scores[i])
    return losses


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("chunk", [1024, 2, 1])
def test_losses_are_those_of_the_definition(monkeypatch, corrected, chunk):
    monkeypatch.setattr(layer, "CHUNK", chunk)
    given = inputs()
    log_q = torch.randn(SIZE, generator=torch.Generator().manual_seed(7))
    expected = losses_by_definition(given, log_q.tolist() if corrected else [0] * SIZE)
    found = in_batch_softmax(**given, log_q_B=log_q if corrected else None)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_chunks_have_the_gradient_of_the_whole(monkeypatch):
    gradients = []
    for chunk in (1024, 2):
        monkeypatch.setattr(layer, "CHUNK", chunk)
        given = inputs()
        for name in ("queries_BD", "documents_BD"):
            given[name].requires_grad_()
        in_batch_softmax(**given).sum().backward()
        gradients.append([given[n].grad for n in ("queries_BD", "documents_BD")])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts)


def test_the_gradient_reaches_queries_and_all_candidates_and_nothing_else():
    given = inputs()
    for name in ("queries_BD", "documents_BD"):
        given[name].requires_grad_()
    in_batch_softmax(**given).sum().backward()
    reached = given["queries_BD"].grad.any(dim=1)
    assert torch.equal(reached, given["is_query_B"])
    reached = given["documents_BD"].grad.any(dim=1)
    assert torch.equal(reached, given["is_candidate_B"])


def test_a_query_without_any_other_document_has_no_loss():
    given = inputs()
    given["keys_B"] = torch.full((SIZE,), 3)
    assert in_batch_softmax(**given).abs().max() < 1e-6


@pytest.mark.parametrize("size", [0, SIZE])
def test_a_batch_without_queries_has_no_losses_and_a_gradient_of_zero(size):
    given = {name: value[:size] for name, value in inputs().items()}
    given["is_query_B"] = torch.zeros(size, dtype=torch.bool)
    given["queries_BD"].requires_grad_()
    losses = in_batch_softmax(**given)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert not given["queries_BD"].grad.any()
