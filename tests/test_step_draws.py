from __future__ import annotations

import torch

from dlrm.step_draws import seed_draws, step_seed


def test_step_seeds_differ_by_step_and_by_seed():
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_gives_the_draws_that_torch_gives_for_it():
    torch.manual_seed(7)
    expected = torch.rand(4)
    seed_draws(7, torch.device("cpu"))
    assert torch.rand(4).tolist() == expected.tolist()
