"""What a process knows of the others of its job."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from torch._C._distributed_c10d import Store

from dlrm.distributed.beats import Beats, machine_name
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.restart import agent_keeps_store
from dlrm.distributed.stalls import (
    NO_SIGN_SECONDS,
    End,
    Life,
    Standing,
    failed,
    gone,
    gone_sentence,
    where,
)

FAILED, GONE = 2, 75
"""Exit codes: of an error of the user's; of one that another try may mend."""

_LONGEST_GAP = 2.0
_MISSED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Cause:
    """Why this process cannot go on."""

    message: str
    exit_code: int


class Peers:
    """The other processes, as their signs of life and the system tell of them."""

    def __init__(
        self,
        store: Store,
        context: ProcessContext,
        *,
        tell: Callable[[], Standing],
    ) -> None:
        """Exchange signs of life over ``store``; ``tell`` says how this one stands."""
        self._context, self._machine = context, machine_name()
        self._began = self._looked = time.monotonic()
        self.beats = Beats(
            store, rank=context.rank, world_size=context.world_size, tell=tell
        )
        self._answered, self._silence = self.beats.answered, 0.0
        self._first_keeps = self.beats.address is not None and not agent_keeps_store()

    @property
    def keeps_store(self) -> bool:
        """Say whether the store ends with this process."""
        return self._first_keeps and self._context.rank == 0

    def standings(self) -> list[Standing]:
        """Return how the others stand, by rank."""
        known = self.beats.standings()
        found = []
        for rank in range(self._context.world_size):
            if rank == self._context.rank:
                continue
            if rank not in known:
                unheard = max(0.0, self.beats.answered - self._began)
                found.append(Standing(rank=rank, still=unheard, silent=unheard))
                continue
            standing, machine = known[rank]
            if machine == self._machine and standing.silent >= _MISSED_SECONDS:
                life = life_of(standing.pid)
                standing = dataclasses.replace(standing, life=life)
            found.append(standing)
        return found

    def all_ended(self) -> bool:
        """Say whether every other process has left, or died."""
        return all(
            each.end is not End.none or each.life is Life.dead
            for each in self.standings()
        )

    def store_silence(self) -> float:
        """Return the seconds for which the store has not answered. Ask now and then."""
        now = time.monotonic()
        # A gap in the asking is this process's own: it was stopped.
        gap, self._looked = min(now - self._looked, _LONGEST_GAP), now
        answered = self.beats.answered
        self._silence = self._silence + gap if answered == self._answered else 0.0
        self._answered = answered
        return self._silence

    def word_store_silence(self, seconds: float) -> str:
        """Say who keeps the store that does not answer."""
        known = self.beats.standings()
        if self._first_keeps and 0 not in known:
            return (
                f"Rank 0, which keeps the job's store{self._at()}, has not answered "
                f"for {seconds:.0f} s: its process, or its machine, hangs."
            )
        if self._first_keeps:
            first, _ = known[0]
            state = life_of(first.pid) if known[0][1] == self._machine else Life.unknown
            why = "is stopped by a signal" if state is Life.stopped else "hangs"
            machine = "" if state is Life.stopped else " or that machine"
            return (
                f"Rank 0, which keeps the job's store, has not answered for "
                f"{seconds:.0f} s: its process {first.pid} on {first.host}{machine} "
                f"{why}; it was last seen {where(first)}."
            )
        keeper = "The job's store"
        if self._by_agent:
            keeper = "torchrun, which keeps the job's store"
        return (
            f"{keeper}{self._at()} has not answered for {seconds:.0f} s: its process, "
            f"its machine or the network hangs."
        )

    def cause(self, *, silence: float) -> Cause | None:
        """Return why the job cannot go on; None where nothing is known.

        Args:
            silence: Seconds without a sign of life that are taken for death.
        """
        standings = self.standings()
        bad = failed(standings)
        if bad is not None:
            return Cause(f"Rank {bad.rank} stopped the job: {bad.message}", FAILED)
        lost = gone(standings, silence=max(silence, NO_SIGN_SECONDS))
        if lost is not None:
            return Cause(gone_sentence(lost), GONE)
        if self.beats.lost and any(each.end is End.none for each in standings):
            return self._store_lost(standings)
        return None

    def _store_lost(self, standings: list[Standing]) -> Cause | None:
        if self._by_agent:
            return Cause(
                f"torchrun, which keeps the job's store{self._at()}, is gone.", GONE
            )
        first = next((each for each in standings if each.rank == 0), None)
        if first is None or first.end is not End.none:
            return None
        return Cause(
            f"Rank 0 is gone (the job's store{self._at()}, which it keeps, has "
            f"closed); it was last seen {where(first)}.",
            GONE,
        )

    @property
    def _by_agent(self) -> bool:
        return self.beats.address is not None and not self._first_keeps

    def _at(self) -> str:
        if self.beats.address is None:
            return ""
        host, port = self.beats.address
        return f" at {host}:{port}"


def life_of(pid: int) -> Life:
    """Return what the system says of a process of this machine."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return Life.dead
    except psutil.Error:
        return Life.unknown
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return Life.dead
    if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
        return Life.stopped
    return Life.unknown
