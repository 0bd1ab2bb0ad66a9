"""Hostile bytes from sound ones: small edits, by a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MAX_BYTES = 3_000
TOKENS = (
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xc2\xa0",
    b"\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b'"',
    b'""',
    b'"\n"',
    b"'",
    b"\\",
    b",",
    b"\t",
    b"|",
    b"::",
    b":",
    b";",
    b"^",
    b" ",
    b"\x1f",
    b"\x0b",
    b"\x1c",
    b"0",
    b"1",
    b"-1",
    b"+1",
    b"1.0",
    b"1.",
    b".5",
    b"1e5",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"0x10",
    b"1_0",
    b"007",
    b"nan",
    b"NaN",
    b"-nan",
    b"NA",
    b"null",
    b"inf",
    b"-Infinity",
    b"true",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"9007199254740993",
    b"4611686018427387905",
    b"9" * 400,
    b"\xd9\xa1",
    b"\xef\xbc\x91",
    b"[1, 2]",
    b"['a']",
    b'["a","b"]',
    b"()",
    b"2020-01-01",
    b"2020-02-30T25:61:61Z",
    b"\xf0\x9f\x98\x80",
    b"${x}",
    b"{}",
    b"#",
)
"""What the readers' formats, or the languages around them, give a meaning to."""

Edit = Callable[[random.Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]


def mutate(
    rng: random.Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]
) -> bytes:
    """Return ``data`` after one to six edits."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 6))):
        data = rng.choice(_EDITS)(rng, data, pool, tokens)
    return data[:MAX_BYTES]


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 1, 2, 4, 8, 16, 64)))


def _flip(rng: random.Random, data: bytes, *_: object) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set_byte(rng: random.Random, data: bytes, *_: object) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _set_option(rng: random.Random, data: bytes, *_: object) -> bytes:
    # The first bytes choose settings: see Script.
    at = min(rng.randrange(10), len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _delete(rng: random.Random, data: bytes, *_: object) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] + data[stop:]


def _repeat(rng: random.Random, data: bytes, *_: object) -> bytes:
    start, stop = _span(rng, data)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 3, 20)) + data[stop:]


def _insert_token(
    rng: random.Random, data: bytes, _: object, tokens: Sequence[bytes]
) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(tokens) + data[at:]


def _replace_word(
    rng: random.Random, data: bytes, _: object, tokens: Sequence[bytes]
) -> bytes:
    """Put a token in place of the letters and digits around some place."""
    at = rng.randint(0, len(data))
    start = stop = at
    while start > 0 and data[start - 1 : start].isalnum():
        start -= 1
    while stop < len(data) and data[stop : stop + 1].isalnum():
        stop += 1
    return data[:start] + rng.choice(tokens) + data[stop:]


def _truncate(rng: random.Random, data: bytes, *_: object) -> bytes:
    return data[: rng.randint(0, len(data))]


def _splice(rng: random.Random, data: bytes, pool: Sequence[bytes], _: object) -> bytes:
    other = rng.choice(pool)
    start, stop = sorted(rng.randint(0, len(other)) for _ in range(2))
    at = rng.randint(0, len(data))
    return data[:at] + other[start:stop] + data[at:]


def _edit_lines(rng: random.Random, data: bytes, *_: object) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines.insert(first, lines[second])
        case 1:
            del lines[first]
        case _:
            lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


_EDITS: tuple[Edit, ...] = (
    _flip,
    _set_byte,
    _set_option,
    _set_option,
    _delete,
    _repeat,
    _insert_token,
    _insert_token,
    _insert_token,
    _replace_word,
    _replace_word,
    _truncate,
    _splice,
    _edit_lines,
)
