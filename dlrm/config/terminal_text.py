"""Text from strangers on its way to a terminal."""

from __future__ import annotations

_KEPT = "\n\t"


def plain(text: str) -> str:
    r"""Return the text with control characters written out, such as ``\x1b``.

    A column's name could else move the cursor, retitle the window or hide what
    follows. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign in _KEPT or sign.isprintable() else _written_out(sign)
        for sign in text
    )


def _written_out(sign: str) -> str:
    return sign.encode("unicode_escape", "backslashreplace").decode("ascii")
