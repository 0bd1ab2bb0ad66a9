"""Who keeps a job from moving: a pure function of how every process stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from dlrm.config.watch import WatchConfig
from dlrm.distributed.watch import Phase
from dlrm.distributed.whereabouts import Waits

NO_SIGN_SECONDS = 5.0
"""Processes tell of themselves every second or two: whoever misses several is told of
as silent."""
_WITHOUT_LIMIT = 10
"""How many times ``watch.silence`` a process may be silent in a phase without limit: a
library may hold Python's lock for long."""


class Life(Enum):
    """What the system says of a process of this machine."""

    unknown = "unknown"
    """Of another machine, or nothing special."""
    stopped = "stopped"
    dead = "dead"


class End(Enum):
    """How a process left the job."""

    none = ""
    done = "done"
    failed = "failed"
    followed = "followed"
    """It ends since another one failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one process stands, as far as another one knows."""

    rank: int
    phase: Phase = Phase.start
    detail: str = ""
    moves: int = 0
    still: float = 0.0
    """Seconds since it moved, those of its silence included."""
    silent: float = 0.0
    """Seconds since it told of itself."""
    place: str = ""
    file: str = ""
    waits: Waits = Waits.no
    end: End = End.none
    message: str = ""
    """Why it failed."""
    life: Life = Life.unknown
    host: str = ""
    pid: int = 0

    @property
    def is_silent(self) -> bool:
        """Say whether it has missed several of its signs of life."""
        return self.silent >= NO_SIGN_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who keeps the job from moving."""

    culprits: tuple[Standing, ...]
    together: bool = False
    """All wait alike for one another: a collective or the network, not one of them."""


def limits_of(config: WatchConfig) -> dict[Phase, float | None]:
    """Return the seconds that each phase may take without a move."""
    return {phase: getattr(config, phase.value) for phase in Phase}


def decide(
    standings: Sequence[Standing],
    limits: Mapping[Phase, float | None],
    *,
    silence: float,
) -> Verdict | None:
    """Return who keeps the job from moving; None where nobody is over a limit.

    The culprit has made the fewest moves and does not wait in a collective, or has
    fallen silent. Those that wait for it stand still, too, but have moved further or do
    wait. While it is within its own limit nobody is named: it may be writing a large
    file.

    Args:
        standings: Of all processes, the one that asks included.
        limits: ``limits_of`` the config.
        silence: Seconds without a sign of life that are too long in any phase.
    """
    present = [each for each in standings if each.end is End.none]
    late = [each for each in present if _late(each, limits)]
    silent = [each for each in present if each.is_silent]
    too_silent = tuple(
        each for each in silent if late or _too_silent(each, limits, silence)
    )
    if too_silent or not late:
        return Verdict(too_silent) if too_silent else None
    suspects = _suspects(present)
    culprits = tuple(each for each in suspects if each in late)
    together = len(suspects) == len(present) > 1
    if not culprits or (together and len(culprits) < len(suspects)):
        return None
    return Verdict(culprits, together=together)


def gone(standings: Sequence[Standing], *, silence: float) -> Standing | None:
    """Return the process that has surely or most probably died, if there is one.

    Args:
        standings: Of the other processes.
        silence: Seconds without a sign of life that are taken for death; a process
            that is known to be stopped is not dead.
    """
    present = [each for each in standings if each.end is End.none]
    for each in present:
        if each.life is Life.dead:
            return each
    lost = [e for e in present if e.life is Life.unknown and e.silent >= silence]
    return max(lost, key=lambda each: each.silent, default=None)


def failed(standings: Sequence[Standing]) -> Standing | None:
    """Return the process that failed first of all, by rank, if one did."""
    return next((each for each in standings if each.end is End.failed), None)


def describe(verdict: Verdict, limits: Mapping[Phase, float | None]) -> list[str]:
    """Return one line for each culprit, or one that names all where all wait alike."""
    if not verdict.together:
        return [_sentence(each, limits) for each in verdict.culprits]
    first = verdict.culprits[0]
    places = "; ".join(
        f"rank {each.rank} {where(each)}" for each in verdict.culprits[:_MOST_NAMED]
    )
    more = len(verdict.culprits) - _MOST_NAMED
    if more > 0:
        places += f"; and {more} more"
    still = min(each.still for each in verdict.culprits)
    if all(each.waits is Waits.surely for each in verdict.culprits):
        why = "All wait for one another: the network, or a collective that not all "
        why += "entered alike"
    else:
        why = "No rank is ahead of another"
    return [
        f"No rank has moved for {_seconds(still)}. {why}. {places}; "
        f"{_limit(first, limits)}."
    ]


_MOST_NAMED = 8


def gone_sentence(standing: Standing) -> str:
    """Word that a process has died."""
    if standing.life is Life.dead:
        sign = f"its process {standing.pid} on {standing.host} has died"
    else:
        sign = f"no sign of life for {_seconds(standing.silent)}"
        if standing.host:
            sign += f" from {standing.host}"
    return f"Rank {standing.rank} is gone ({sign}); it was last seen {where(standing)}."


def where(each: Standing) -> str:
    """Word what a process does and where it stands, to go on from "it is"."""
    parts = [f"in {each.detail or each.phase.value}"]
    if each.place:
        parts.append(f"at {each.place}")
    if each.file:
        parts.append(each.file)
    return ", ".join(parts)


def seen_at(standing: Standing, seconds: float) -> Standing:
    """Return the standing as it is ``seconds`` of silence later."""
    return dataclasses.replace(standing, silent=seconds, still=standing.still + seconds)


def _suspects(present: list[Standing]) -> list[Standing]:
    """Return those for which the others wait; all, where nothing tells them apart."""
    fewest = min(each.moves for each in present)
    working = [each for each in present if each.waits is not Waits.surely]
    # Whoever counts moves of its own is ahead for good: the others then wait for it
    # with fewer moves.
    eligible = [each for each in working if each.moves == fewest] or working or present
    least = min(each.waits for each in eligible)
    return [each for each in eligible if each.waits is least]


def _too_silent(
    each: Standing, limits: Mapping[Phase, float | None], silence: float
) -> bool:
    """Say whether a silence is too long even where nobody waits too long."""
    unlimited = limits[each.phase] is None or not each.moves
    return each.silent > (silence * _WITHOUT_LIMIT if unlimited else silence)


def _late(each: Standing, limits: Mapping[Phase, float | None]) -> bool:
    # A command that never marks a move has no phases, and so no limits.
    limit = limits[each.phase] if each.moves else None
    return limit is not None and each.still > limit


def _sentence(each: Standing, limits: Mapping[Phase, float | None]) -> str:
    if not each.is_silent:
        return (
            f"Rank {each.rank} has not moved for {_seconds(each.still)}: "
            f"{where(each)}; {_limit(each, limits)}."
        )
    process = f"its process {each.pid} on {each.host}"
    why = {
        Life.stopped: f"{process} is stopped by a signal",
        Life.dead: f"{process} has died",
        Life.unknown: f"{process} or that machine hangs",
    }[each.life]
    return (
        f"Rank {each.rank} has given no sign of life for {_seconds(each.silent)}: "
        f"{why}; it was last seen {where(each)}."
    )


def _limit(each: Standing, limits: Mapping[Phase, float | None]) -> str:
    limit = limits[each.phase]
    assert limit is not None
    return f"limit {limit:g} s (watch.{each.phase.value})"


def _seconds(number: float) -> str:
    return f"{number:.0f} s"
