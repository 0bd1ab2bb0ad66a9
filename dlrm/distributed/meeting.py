"""Where the processes of a job meet, apart from those of its earlier lives.

torchrun keeps one store for all lives of a job's processes. What the dead have written
there, such as the address of a rank, would be read by the living.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store

from dlrm.config.errors import RankGoneError

_FOLDER = "dlrm/meeting"
_POLL_SECONDS = 0.02


def meet(store: Store, *, rank: int, world_size: int, timeout: timedelta) -> Store:
    """Return a part of ``store`` that this life's processes have to themselves.

    All of them call this. The first one names the life, and tells the name to whoever
    says hello; who has it says so, so that an answer to one that is dead is no harm.

    Raises:
        RankGoneError: A process has not come within ``timeout``.
    """
    if rank == 0:
        life = uuid.uuid4().hex
        _welcome(store, life, world_size, timeout)
    else:
        own = uuid.uuid4().hex
        store.set(f"{_FOLDER}/hello/{rank}", own)
        store.wait([f"{_FOLDER}/welcome/{own}"], timeout)
        life = store.get(f"{_FOLDER}/welcome/{own}").decode()
        store.set(f"{_FOLDER}/here/{life}/{rank}", "")
    return PrefixStore(f"life-{life}", store)


def _welcome(store: Store, life: str, world_size: int, timeout: timedelta) -> None:
    deadline = time.monotonic() + timeout.total_seconds()
    answered: dict[int, bytes] = {}
    missing = set(range(1, world_size))
    while missing:
        for rank in sorted(missing):
            hello = f"{_FOLDER}/hello/{rank}"
            if store.check([hello]):
                name = store.get(hello)
                if name != answered.get(rank):
                    store.set(f"{_FOLDER}/welcome/{name.decode()}", life)
                    answered[rank] = name
            if store.check([f"{_FOLDER}/here/{life}/{rank}"]):
                missing.remove(rank)
        if missing and time.monotonic() > deadline:
            raise RankGoneError(
                f"Rank {min(missing)} has not come within "
                f"{timeout.total_seconds():.0f} seconds of the start."
            )
        time.sleep(_POLL_SECONDS if missing else 0)
