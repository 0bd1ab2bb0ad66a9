"""Sees to it that a job neither stands still nor ends in silence.

One thread of each process looks at how all of them stand, twice a second: it names
whoever keeps the job from moving, and ends its own process where the main thread hangs
in a collective that can never finish.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from dlrm.config.errors import (
    JobStoppedError,
    OtherRankError,
    RankGoneError,
    UserError,
)
from dlrm.config.watch import WatchConfig
from dlrm.distributed.alarm import Alarm
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.peer_errors import is_peer_error
from dlrm.distributed.peers import FAILED, GONE, Cause, Peers
from dlrm.distributed.signal_pipe import SignalPipe
from dlrm.distributed.stalls import NO_SIGN_SECONDS, End, Standing, limits_of
from dlrm.distributed.watch import Watch
from dlrm.distributed.whereabouts import whereabouts

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 5.0
"""For the main thread to end by itself, once there is no going on."""
_STOP_SECONDS = 25.0
"""For the same after SIGTERM: launchers kill after 30."""
_BLAME_SECONDS = 8.0
_LEAVE_SECONDS = 15.0
_TELL_SECONDS = 2.0
_MEETING_SECONDS = 30.0


def _to_stderr(text: str) -> None:
    # Not print: its lock may be held by the thread that hangs.
    os.write(2, text.encode())


class Watchman:
    """Watches over one process among those of its job."""

    def __init__(
        self,
        context: ProcessContext,
        config: WatchConfig,
        *,
        write: Callable[[str], None] = _to_stderr,
    ) -> None:
        """Watch the calling thread, from ``start`` on."""
        self.watch = Watch()
        """Where the main thread marks its moves."""
        self.peers: Peers | None = None
        """The others, once they have met and where they are watched."""
        self.has_met = False
        """Whether the processes have met."""
        self._context, self._config, self._write = context, config, write
        self._limits = limits_of(config)
        self._alarm = Alarm(config, rank=context.rank)
        self._main, self._host = threading.get_ident(), socket.gethostname()
        self._end, self._message, self._exit_code = End.none, "", 0
        self._left_at: float | None = None
        self._worded_until = 0.0
        """Until when the main thread itself finds words for its end."""
        self._cause: Cause | None = None
        self._cause_since = 0.0
        self._started = time.monotonic()
        self._next_meeting_line = self._started + _MEETING_SECONDS
        self._closed = False
        self._signals: SignalPipe | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchman")

    def start(self) -> None:
        """Begin, before the processes have met."""
        if self._config.enabled:
            self._signals = SignalPipe()
            self._thread.start()

    @contextlib.contextmanager
    def over(self, store: Store) -> Iterator[None]:
        """Watch over the body of a ``with``, in which the processes have met.

        Raises:
            OtherRankError: For an error of a collective, where another one failed.
            RankGoneError: The same, where another one died or hangs.
        """
        self.has_met = True
        if self._config.enabled:
            self.peers = Peers(store, self._context, tell=self._standing)
        try:
            yield
        except BaseException as error:
            worded = self._leave(error)
            if worded is error:
                raise
            raise worded from error
        self._tell(End.done)

    def close(self) -> None:
        """End the watch; whoever keeps the store lets the others read first."""
        if self.peers is not None:
            deadline = time.monotonic() + _GRACE_SECONDS
            while self.peers.keeps_store and time.monotonic() < deadline:
                if self.peers.all_ended():
                    break
                time.sleep(0.05)
        self._closed = True
        if self._signals is not None:
            self._signals.wake()
            self._thread.join()
            self._signals.close()
        if self.peers is not None:
            self.peers.beats.close()

    def meeting_failed(self, error: Exception) -> RankGoneError:
        """Word that the processes did not come together."""
        return RankGoneError(
            f"All {self._context.world_size} processes of the job must meet "
            f"at {self._context.meeting_place}, but they did not: {_first_line(error)} "
            f"See that each was started and reaches the first one's machine."
        )

    # What the main thread does when it leaves.

    def _leave(self, error: BaseException) -> BaseException:
        """Tell the others of the error that ends this process; return it in words."""
        self._worded_until = time.monotonic() + _BLAME_SECONDS + _GRACE_SECONDS
        if isinstance(error, JobStoppedError):
            self._tell(End.done)
            return error
        if self.peers is not None and is_peer_error(error):
            error = self._blamed() or error
        if isinstance(error, UserError | RankGoneError):
            error.rank = self._context.rank
        if isinstance(error, RankGoneError | OtherRankError):
            self._exit_code = GONE if isinstance(error, RankGoneError) else FAILED
            self._tell(End.followed)
            return error
        self._exit_code = FAILED if isinstance(error, UserError) else 1
        self._tell(End.failed, _reason(error))
        return error

    def _tell(self, end: End, message: str = "") -> None:
        self._end, self._message = end, message
        if self.peers is not None:
            self.peers.beats.hasten()
            self.peers.beats.told.wait(_TELL_SECONDS)
        self._left_at = time.monotonic()

    def _blamed(self) -> UserError | RankGoneError | None:
        """Return why a collective failed; None where no other process is at fault."""
        assert self.peers is not None
        deadline = time.monotonic() + _BLAME_SECONDS
        while time.monotonic() < deadline:
            cause = self.peers.cause(silence=NO_SIGN_SECONDS)
            if cause is not None:
                kind = OtherRankError if cause.exit_code == FAILED else RankGoneError
                return kind(cause.message)
            time.sleep(0.1)
        stall = self._alarm.last_words
        return RankGoneError(f"The job gave up waiting. {stall}") if stall else None

    # What the watchman's thread does.

    def _standing(self) -> Standing:
        """Return how this process stands."""
        mark, found = self.watch.mark, whereabouts(self._main)
        return Standing(
            rank=self._context.rank,
            phase=mark.phase,
            detail=mark.detail,
            moves=mark.moves,
            still=time.monotonic() - mark.at,
            place=found.place,
            file=found.file,
            waits=found.waits,
            end=self._end,
            message=self._message,
            host=self._host,
            pid=os.getpid(),
        )

    def _run(self) -> None:
        assert self._signals is not None
        while not self._closed:
            self._signals.wait(_LOOK_SECONDS)
            if not self._closed:
                self._look(self._signals, time.monotonic())

    def _look(self, signals: SignalPipe, now: float) -> None:
        if self._left_at is not None:
            if self._exit_code and now - self._left_at > _LEAVE_SECONDS:
                self._quit(Cause("It could not leave in time.", self._exit_code))
            return
        if signals.received is not None:
            self._end_where_stopped(*signals.received, now)
        if self.peers is None:
            self._say_who_waits(now)
        elif now >= self._worded_until:
            self._say_who_stands_still(self.peers, now)
            self._end_where_hopeless(self.peers, now)

    def _say_who_waits(self, now: float) -> None:
        if now >= self._next_meeting_line:
            waited = now - self._started
            self._next_meeting_line = now + waited
            self._say(
                f"This process has waited {waited:.0f} s to meet the "
                f"{self._context.world_size - 1} others of the job "
                f"at {self._context.meeting_place}."
            )

    def _say_who_stands_still(self, peers: Peers, now: float) -> None:
        own, line = self._standing(), ""
        limit, silence = self._limits[own.phase], peers.store_silence()
        late = limit is not None and own.still > limit
        if silence > (NO_SIGN_SECONDS if late else self._config.silence):
            line = peers.word_store_silence(silence)
        said = self._alarm.store_lines(line, silence, now)
        if not line:
            said += self._alarm.lines([own, *peers.standings()], now)
        for each in said:
            self._say(each)

    def _end_where_hopeless(self, peers: Peers, now: float) -> None:
        """End this process where it waits in vain and does not find out by itself."""
        give_up = self._config.give_up
        cause = peers.cause(silence=give_up)
        if cause is None and self._alarm.hopeless:
            end = f"The job ends after {give_up:g} s (watch.give_up)."
            cause = Cause(f"{self._alarm.last_words} {end}", GONE)
        if cause is None:
            self._cause = None
        elif self._cause is None:
            self._cause, self._cause_since = cause, now
        elif now - self._cause_since > _GRACE_SECONDS:
            self._quit(cause)

    def _end_where_stopped(self, number: int, at: float, now: float) -> None:
        """End this process where it does not do so itself after SIGTERM."""
        mark = self.watch.mark
        patience = max(_STOP_SECONDS, self._limits[mark.phase] or 0.0)
        if now - max(at, mark.at) > patience:
            doing, place = mark.detail or mark.phase.value, whereabouts(self._main)
            words = (
                f"This process was asked to stop {now - at:.0f} s ago, but still is in "
                f"{doing}, at {place.place}. It ends without a checkpoint."
            )
            self._quit(Cause(words, 128 + number))

    def _say(self, line: str) -> None:
        self._write(f"[rank {self._context.rank}] {line}\n")

    def _quit(self, cause: Cause) -> None:
        """End the process, although its main thread may hang in a library."""
        self._say(cause.message)
        # What was printed so far; the main thread may hold the lock.
        flush = threading.Thread(target=_flush, daemon=True)
        flush.start()
        flush.join(1.0)
        os._exit(cause.exit_code)


@contextlib.contextmanager
def watching(context: ProcessContext, config: WatchConfig | None) -> Iterator[Watchman]:
    """Watch over this process from before the others are met until they are left.

    Raises:
        RankGoneError: The processes did not meet.
    """
    watchman = Watchman(context, config or WatchConfig())
    watchman.start()
    try:
        yield watchman
    except dist.DistError as error:
        if watchman.has_met:
            raise
        raise watchman.meeting_failed(error) from error
    finally:
        watchman.close()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted."
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
