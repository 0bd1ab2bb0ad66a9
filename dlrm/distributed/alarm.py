"""What is said of a job that stands still: at once, then with growing pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlrm.config.watch import WatchConfig
from dlrm.distributed.stalls import Standing, decide, describe, limits_of

_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 300.0


@dataclass(slots=True)
class _Named:
    """Somebody who has been named, and how they stood then."""

    still: float
    next_line: float
    pause: float = _FIRST_PAUSE


class Alarm:
    """Turns how all processes stand into lines for one process's log."""

    def __init__(self, config: WatchConfig, *, rank: int) -> None:
        """Speak for process ``rank``, which does not accuse itself."""
        self._rank = rank
        self._limits = limits_of(config)
        self._silence = config.silence
        self._give_up = config.give_up
        self._named: dict[int, _Named] = {}
        self._all: _Named | None = None
        self._store: _Named | None = None
        self.last_words = ""
        """The line of whoever keeps the job from moving now; empty where nobody."""
        self.hopeless = False
        """Whether they have stood for longer than ``watch.give_up``."""

    def lines(self, standings: Sequence[Standing], now: float) -> list[str]:
        """Return what is to be said now.

        Args:
            standings: Of all processes, this one included.
            now: Seconds of a clock that never goes back.
        """
        found = decide(standings, self._limits, silence=self._silence)
        if found is None:
            self.last_words, self.hopeless = "", False
            return self._moved(standings)
        words = describe(found, self._limits)
        self.last_words = words[0]
        self.hopeless = any(each.still > self._give_up for each in found.culprits)
        said = self._moved(standings)
        if found.together:
            least = min(each.still for each in found.culprits)
            self._all, due = _due(self._all, least, now)
            return said + words * due
        for each, line in zip(found.culprits, words, strict=True):
            if each.rank != self._rank:
                named, due = _due(self._named.get(each.rank), each.still, now)
                self._named[each.rank] = named
                said += [line] * due
        return said

    def store_lines(self, line: str, seconds: float, now: float) -> list[str]:
        """Return what is to be said of a store that has not answered for ``seconds``.

        The others are then not known. An empty ``line`` says that it answers.
        """
        if not line:
            before, self._store = self._store, None
            if before is None:
                return []
            return [f"The job's store answers again after {before.still:.0f} s."]
        self.last_words, self.hopeless = line, seconds > self._give_up
        self._store, due = _due(self._store, seconds, now)
        return [line] * due

    def _moved(self, standings: Sequence[Standing]) -> list[str]:
        said = []
        by_rank: Mapping[int, Standing] = {each.rank: each for each in standings}
        for rank, named in list(self._named.items()):
            if by_rank[rank].still < named.still:
                said.append(f"Rank {rank} moves again after {named.still:.0f} s.")
                del self._named[rank]
        least = min(each.still for each in standings)
        if self._all is not None and least < self._all.still:
            said.append(f"The job moves again after {self._all.still:.0f} s.")
            self._all = None
        return said


def _due(named: _Named | None, still: float, now: float) -> tuple[_Named, bool]:
    """Return the named one as it stands now, and whether to name it again."""
    if named is None:
        return _Named(still, now + _FIRST_PAUSE), True
    named.still = max(named.still, still)
    if now < named.next_line:
        return named, False
    named.pause = min(2 * named.pause, _LONGEST_PAUSE)
    named.next_line = now + named.pause
    return named, True
