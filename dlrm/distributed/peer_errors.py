"""Which errors are those of a collective whose other side has gone or fell silent."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch.distributed as dist

_WORDS = re.compile(
    r"closed by peer|reset by peer|Broken pipe|Connection (closed|refused|reset)|"
    r"Socket closed|[Tt]imed out|[Tt]imeout|remote process exited|NCCL|ncclSystemError|"
    r"Read error|Write error|connectFullMesh"
)


def is_peer_error(error: BaseException) -> bool:
    """Say whether an error, or what it came from, is a collective's lost connection."""
    return any(_is_one(each) for each in _chain(error))


def _is_one(error: BaseException) -> bool:
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(_WORDS.search(str(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
