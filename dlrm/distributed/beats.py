"""Signs of life through the job's store: each process tells of itself, reads others.

A thread of its own does it, over its own connection: a store that does not answer then
keeps nobody waiting, and its silence is told as well.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from dlrm.distributed.stalls import End, Standing, seen_at
from dlrm.distributed.watch import Phase
from dlrm.distributed.whereabouts import Waits

BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 30.0
_MAX_READ_SECONDS = 4.0
_RANKS_PER_SECOND = 64
"""Values that a process reads a second: all the others' in a job of this size."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process last told of itself."""

    number: int
    standing: Standing
    machine: str
    """Names the machine and its process numbers."""
    arrived: float
    """When this number was first seen here, by ``time.monotonic``."""
    exchange: int
    """The exchange in which it was."""


def encode(standing: Standing, *, number: int, machine: str) -> str:
    """Return a standing as the text that travels."""
    values = {
        "number": number,
        "machine": machine,
        "phase": standing.phase.value,
        "detail": standing.detail,
        "moves": standing.moves,
        "still": round(standing.still, 3),
        "place": standing.place,
        "file": standing.file,
        "waits": int(standing.waits),
        "end": standing.end.value,
        "message": standing.message,
        "host": standing.host,
        "pid": standing.pid,
    }
    return json.dumps(values)


def decode(text: str | bytes, *, rank: int, arrived: float, exchange: int) -> Beat:
    """Return what ``encode`` made bytes of."""
    values: dict[str, Any] = json.loads(text)
    number, machine = values.pop("number"), values.pop("machine")
    standing = Standing(
        rank=rank,
        phase=Phase(values.pop("phase")),
        waits=Waits(values.pop("waits")),
        end=End(values.pop("end")),
        **values,
    )
    return Beat(number, standing, machine, arrived, exchange)


def machine_name() -> str:
    """Return what processes have in common that can look at one another."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"


class Beats:
    """Exchanges signs of life in the background until it is closed."""

    def __init__(
        self,
        store: Store,
        *,
        rank: int,
        world_size: int,
        tell: Callable[[], Standing],
    ) -> None:
        """Start; ``tell`` says how this process stands, on the thread of the beats."""
        self.peers: dict[int, Beat] = {}
        """What is known of the others, by rank. Replaced, never changed."""
        self.answered = time.monotonic()
        """When the store last answered, by ``time.monotonic``."""
        self.lost = False
        """Whether the store's process has gone."""
        self.told = threading.Event()
        """Set when the others can read what was to be told at the last ``hasten``."""
        # Held so that a server within this process lives on.
        self._store = store
        self._rank, self._world_size, self._tell = rank, world_size, tell
        self._machine = machine_name()
        # Processes may join several jobs one after another over one store.
        joins = store.add(f"dlrm/watch/{rank}", 1)
        self._prefix = f"dlrm/watch/{joins}"
        self._number = 0
        self._hasten, self._closed = threading.Event(), False
        self.address = _address(store)
        """Host and port of the store; None for one that is a file."""
        self._line = _open_line(self.address)
        pause = world_size / _RANKS_PER_SECOND * BEAT_SECONDS
        self._pause = min(max(pause, BEAT_SECONDS), _MAX_READ_SECONDS)
        self._thread = threading.Thread(target=self._run, daemon=True, name="beats")
        self._thread.start()

    def standings(self) -> dict[int, tuple[Standing, str]]:
        """Return how the others stand now, and their machines, by rank."""
        return {
            rank: (seen_at(beat.standing, self._silence(beat)), beat.machine)
            for rank, beat in self.peers.items()
        }

    def _silence(self, beat: Beat) -> float:
        # No more than was listened: this process may have been stopped meanwhile.
        listened = 2 * self._pause * (self._number - beat.exchange)
        return max(0.0, min(self.answered - beat.arrived, listened))

    def hasten(self) -> None:
        """Tell at once how this process stands; ``told`` is set when that is done."""
        self.told.clear()
        self._hasten.set()

    def close(self, *, wait: float = 1.0) -> None:
        """End the thread, waiting up to ``wait`` seconds for it."""
        self._closed = True
        self._hasten.set()
        self._thread.join(wait)
        if self._line is not None:
            self._line.close()

    def _run(self) -> None:
        store: Store | None = None
        while not self._closed:
            hastened = self._hasten.is_set()
            self._hasten.clear()
            if self._gone():
                self.lost = True
                return
            try:
                if store is None:
                    store = _own(self._store)
                self._exchange(store)
            except RuntimeError:  # Every error of a store is one, its timeouts too.
                store = None  # An answer that comes late would answer the next call.
            else:
                self.answered = time.monotonic()
                if hastened:
                    self.told.set()
            self._hasten.wait(self._pause)

    def _exchange(self, store: Store) -> None:
        self._number += 1
        own = encode(self._tell(), number=self._number, machine=self._machine)
        store.set(self._key(self._rank), own)
        peers = dict(self.peers)
        for rank, text in self._read(store).items():
            now = time.monotonic()
            beat = decode(text, rank=rank, arrived=now, exchange=self._number)
            before = peers.get(rank)
            if before is None or before.number != beat.number:
                peers[rank] = beat
        self.peers = peers

    def _read(self, store: Any) -> dict[int, str | bytes]:
        ranks = self._others(store)
        keys = [self._key(rank) for rank in ranks]
        if keys and store.has_extended_api():
            return dict(zip(ranks, store.multi_get(keys), strict=True))
        return {rank: store.get(key) for rank, key in zip(ranks, keys, strict=True)}

    def _key(self, rank: int) -> str:
        return f"{self._prefix}/{rank}"

    def _others(self, store: Store) -> list[int]:
        """Return those that have told of themselves: asking for others would wait."""
        ranks = [rank for rank in range(self._world_size) if rank != self._rank]
        if len(self.peers) == len(ranks):
            return ranks
        return [r for r in ranks if r in self.peers or store.check([self._key(r)])]

    def _gone(self) -> bool:
        """Say whether the store's process has died, which breaks the line to it."""
        if self._line is None or not _is_broken(self._line):
            return False
        # Networks cut idle lines, too; they then let another one through.
        self._line.close()
        self._line = _open_line(self.address)
        return self._line is None


def _own(store: Any) -> Store:
    """Return a connection of its own to the same store."""
    own: Store = store.clone()
    own.set_timeout(timedelta(seconds=_ANSWER_SECONDS))
    return own


def _address(store: Store) -> tuple[str, int] | None:
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    if isinstance(store, TCPStore):
        return store.host, store.port
    return None


def _open_line(address: tuple[str, int] | None) -> socket.socket | None:
    """Connect once more and say nothing: the line breaks when the server dies.

    A call of a dead store would print a page of its library's stack.
    """
    if address is None:
        return None
    try:
        line = socket.create_connection(address, timeout=5.0)
    except OSError:
        return None
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return line


def _is_broken(line: socket.socket) -> bool:
    poll = select.poll()  # select itself refuses files numbered 1024 and above.
    poll.register(line, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return line.recv(1) == b""
    except OSError:
        return True
