"""The entry point ``dlrm``: finds the command, runs it, and words its errors."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import ModuleType

from dlrm import __version__
from dlrm.commands.arguments import render_help, render_rows
from dlrm.commands.starting import become_program, imports_without_pauses
from dlrm.config.durable import room_at
from dlrm.config.environment import read_environment
from dlrm.config.errors import OtherRankError, RankGoneError, UserError
from dlrm.config.keys import did_you_mean
from dlrm.config.terminal_text import plain
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.failure import (
    RankFailure,
    failure_before_restart,
    tell_launcher,
)

COMMANDS = {
    "init": "Look at a table of clicks and write a data config for it",
    "prepare": "Turn raw files into a prepared dataset",
    "train": "Train a model, preparing the data first if needed",
    "evaluate": "Measure a trained model on a split or a labelled file",
    "calibrate": "Make a trained model's probabilities right on average",
    "explain": "Say which features matter, whether tables are sound, and why one row",
    "compare": "Say whether a model is better than another on the same rows",
    "predict": "Score raw rows with a trained model",
    "plan": "Say where tables go, what they take, and whether they fit",
    "embeddings": "Look into a trained table: nearest rows, vectors under raw keys",
    "bench": "Measure this machine's speed",
    "doctor": "Check this installation and say how to mend it",
}
"""Each is the module of its name here, imported when it is run."""

_NO_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EINVAL)
"""What the system says of names that are too long, go in circles, or name no file."""
_DISK_FULL = "No space left on device"
_DISK_FAILS = (errno.EIO, errno.ESTALE)
SUCCESS, USER_ERROR, TRY_AGAIN, INTERRUPTED = 0, 2, 75, 130
_FIRST_RANK_SECONDS = 1.5


def run() -> None:
    """Run the command line and exit."""
    become_program()
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command line and return its exit code.

    Errors that a user can cause are printed as one message and give 2; anything else
    is a bug and keeps its traceback.
    """
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h", "help"):
        print(_overview(), end="")
        return SUCCESS
    if name in ("--version", "-V"):
        print(f"dlrm {__version__}")
        return SUCCESS
    if name not in COMMANDS:
        hint = did_you_mean(name, list(COMMANDS))
        known = ", ".join(COMMANDS)
        return _fail("dlrm", f"There is no command '{name}'.{hint} Commands: {known}.")
    return _run_command(name, argv[1:])


def _run_command(name: str, argv: list[str]) -> int:
    # fbgemm's first lookup asks torch in a way that torch warns about; no user can act
    # on it.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    # torchrec calls torch by names that torch means to give up.
    for package in ("torch", "torchrec"):
        warnings.filterwarnings(
            "ignore", category=FutureWarning, module=rf"{package}\."
        )
    before = failure_before_restart()
    if before is not None:
        tell_launcher(before)
        return before.code
    try:
        with imports_without_pauses():
            module = importlib.import_module(f"dlrm.commands.{name}")
        if {"--help", "-h"} & set(argv):
            print(render_help(module.HELP), end="")
            return SUCCESS
        code = _call(module, argv)
        if code == INTERRUPTED:
            tell_launcher(RankFailure(message="", code=INTERRUPTED))
        return code
    except UserError as error:
        if isinstance(error, OtherRankError):
            return _follow(f"dlrm {name}", error, rank=error.rank, code=USER_ERROR)
        return _fail(f"dlrm {name}", str(error), rank=error.rank)
    except RankGoneError as error:
        return _follow(f"dlrm {name}", error, rank=error.rank, code=TRY_AGAIN)
    except KeyboardInterrupt:
        print(f"dlrm {name}: interrupted", file=sys.stderr)
        tell_launcher(RankFailure(message="", code=INTERRUPTED))
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe, such as head, has gone: nothing is left to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except ImportError as error:
        message = explain_import_error(error)
        if message is None:
            raise
        return _fail(f"dlrm {name}", message)
    except OSError as error:
        message = explain_os_error(error)
        if message is None:
            raise
        return _fail(f"dlrm {name}", message)


def _call(module: ModuleType, argv: list[str]) -> int:
    try:
        return int(module.main(argv))
    except (UserError, RankGoneError, KeyboardInterrupt, OSError, ImportError):
        raise
    except Exception as error:
        if _DISK_FULL in str(error):
            # Libraries wrap the system's error in one of their own.
            raise OSError(errno.ENOSPC, _DISK_FULL) from error
        print("dlrm: this is a bug in dlrm, not in what you typed:", file=sys.stderr)
        raise


def explain_os_error(error: OSError) -> str | None:
    """Word a file system's error; None for one that is no user's doing."""
    path = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or _DISK_FULL in str(error):
        room = room_at(Path(error.filename)) if error.filename else ""
        return (
            f"Writing needs free space, but the disk is full{path}{room}. Free some, "
            f"or write elsewhere with output=... and data.prepared=... on another disk."
        )
    if error.errno in _DISK_FAILS:
        return (
            f"The disk must work, but it fails{path}: {error.strerror}. Look at the "
            f"system's log, or work on another disk."
        )
    if error.filename is None:
        return None
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} must exist, but it does not. Check the path."
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return (
            f"{error.filename} must be open to you, but the system refuses it "
            f"({error.strerror}). Check its permissions, or choose another path."
        )
    kinds = (IsADirectoryError, NotADirectoryError, FileExistsError)
    if isinstance(error, kinds) or error.errno in _NO_PATHS:
        return f"{error.filename} cannot be used: {error.strerror}. Check the path."
    return None


def explain_import_error(error: ImportError) -> str | None:
    """Word a package that cannot be imported, or return None for one of our own."""
    package = (error.name or "").partition(".")[0]
    if package == "dlrm":
        return None
    return (
        f"{package or 'A package'} must be importable, but it is not: {error}. "
        f"Run dlrm doctor, which prints the line that mends it."
    )


def _fail(prefix: str, message: str, *, rank: int | None = None) -> int:
    environment = read_environment()
    if environment.full_error and sys.exc_info()[0] is not None:
        traceback.print_exc()
    tell_launcher(RankFailure(message=message, code=USER_ERROR))
    if environment.launched:
        return USER_ERROR
    if rank is None:
        rank = _wait_for_first_rank()
    _say(f"{_of_rank(rank)}{prefix}: error: {plain(message)}")
    return USER_ERROR


def _follow(prefix: str, error: Exception, *, rank: int | None, code: int) -> int:
    """End since another process of the job did: it says itself why, if it can."""
    environment = read_environment()
    if environment.full_error:
        traceback.print_exc()
    tell_launcher(RankFailure(message=str(error), code=code, of_other_rank=True))
    if not environment.launched or code == TRY_AGAIN:
        _say(f"{_of_rank(rank)}{prefix}: {plain(str(error))}")
    return code


def _say(line: str) -> None:
    # In one piece, which print does not do: several ranks may speak at once.
    sys.stderr.write(f"{line}\n")


def _wait_for_first_rank() -> int | None:
    """Return this process's rank, if any, letting the machine's first speak first.

    Before they have met, most errors are the same for all processes. When the first
    has ended, the launcher ends the others meanwhile; one whose error is its own
    lives on to tell of it.
    """
    try:
        context = ProcessContext.from_environment()
    except UserError:
        return None
    if context.local_rank == 0:
        return None if context.rank == 0 else context.rank
    time.sleep(_FIRST_RANK_SECONDS)
    return context.rank


def _of_rank(rank: int | None) -> str:
    return "" if rank is None else f"[rank {rank}] "


def _overview() -> str:
    return (
        "usage: dlrm COMMAND [key=value ...]\n\n"
        "Train click-through-rate models, from raw clicks to a judged model.\n\n"
        f"commands:\n{render_rows(COMMANDS)}\n\n"
        "dlrm COMMAND --help shows a command's keys and examples. Exit codes: 0 is\n"
        "success, 2 an error of yours, told in one message; DLRM_FULL_ERROR=1 adds\n"
        "the traceback.\n"
    )
