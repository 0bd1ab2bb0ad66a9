"""Cut a source into pieces that any process can read."""

from __future__ import annotations

from collections.abc import Iterator

from dlrm.data.sources.chunk import Piece, ReadChunk, Source


def pieces_of(source: Source) -> Iterator[Piece]:
    """Yield the source's own pieces, or its chunks, which this process reads."""
    own = getattr(source, "pieces", None)
    if own is not None:
        yield from own()
        return
    for chunk in source.chunks():
        yield ReadChunk(chunk)
