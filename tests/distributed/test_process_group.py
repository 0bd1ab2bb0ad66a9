from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from dlrm.distributed.context import ProcessContext
from dlrm.distributed.process_group import process_group


def test_a_group_is_joined_for_its_body_and_left_after_it(tmp_path: Path):
    with process_group(
        ProcessContext(),
        device=torch.device("cpu"),
        init_method=f"file://{tmp_path / 'store'}",
    ) as group:
        assert (group.rank(), group.size()) == (0, 1)
        assert dist.get_backend(group) == "gloo"
    assert not dist.is_initialized()
