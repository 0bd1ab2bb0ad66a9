"""How a delimited text file is written, and its bytes as UTF-8."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from dlrm.config.errors import ConfigError, DataError
from dlrm.data.sources.files import InputFile

UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """Separator, quoting, encoding, and what stands for a missing value.

    With ``quoting``, a field that begins with a double quote ends at the next single
    one, and may hold separators, line ends and doubled quotes (RFC 4180); quotes inside
    a field that does not begin with one are text. Quoting changes nothing else: a
    quoted null value, an empty string included, is missing too.
    """

    separator: str = ","
    quoting: bool = True
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("",)
    column_names: tuple[str, ...] | None = None
    """Names of the columns where files have no header line."""
    section: str = "data.table."
    """What leads the keys of these settings where the user types them."""

    @property
    def separator_bytes(self) -> bytes:
        """The separator as it stands in UTF-8 text."""
        return self.separator.encode()


class Utf8Stream:
    """A file's text as UTF-8 bytes, without byte order mark.

    Bytes that the encoding does not know come through as they are, so that whoever
    parses the rows can name their line.
    """

    def __init__(self, file: InputFile, dialect: Dialect, *, name: str) -> None:
        """Read ``file`` in the dialect's encoding.

        Raises:
            ConfigError: Python does not know the encoding.
        """
        try:
            codec = codecs.lookup(dialect.encoding)
        except LookupError as error:
            raise ConfigError(
                "data.table.encoding must be an encoding that Python knows, such as "
                f"utf-8 or latin-1, but it is {dialect.encoding}."
            ) from error
        self._file = file
        self._name = name
        self._as_is = codec.name == "utf-8"
        self._decoder = codec.incrementaldecoder("surrogateescape")
        self._encoding = codec.name
        self._num_lines = 0
        self._started = False

    def read(self, num_bytes: int) -> bytes:
        """Return the text of the next ``num_bytes``; empty at the end only."""
        text = self._read(num_bytes)
        if self._started:
            return text
        # As many bytes as tell a mark, which may be all that a read gives.
        while len(text) <= len(UTF8_BOM) and (more := self._read(num_bytes)):
            text += more
        return self._begin(text)

    def _read(self, num_bytes: int) -> bytes:
        raw = self._file.read(num_bytes)
        if self._as_is:
            text = raw
        else:
            text = self._decode(raw)
            # A multi-byte character may end in the next read: ask until text comes.
            while raw and not text:
                raw = self._file.read(num_bytes)
                text = self._decode(raw)
            self._num_lines += text.count(b"\n")
        return text

    def _decode(self, raw: bytes) -> bytes:
        try:
            text: str = self._decoder.decode(raw, final=not raw)
            return text.encode("utf-8", "surrogateescape")
        except UnicodeError as error:
            # Some codecs let no byte through, such as half a character of UTF-16: where
            # rows begin is not known after it.
            raise DataError(
                f"{self._name} must be {self._encoding} text (data.table.encoding), "
                f"but on line {1 + self._num_lines} or after bytes come that are none: "
                f"{error}. Mend them, or set the encoding that the file has."
            ) from error

    def _begin(self, text: bytes) -> bytes:
        self._started = True
        if self._as_is and text.startswith(_UTF16_BOMS):
            raise DataError(
                f"{self._name} must be UTF-8 text, but it begins like UTF-16. Set "
                "data.table.encoding=utf-16."
            )
        return text.removeprefix(UTF8_BOM)

    def position(self) -> int:
        """Return how many bytes of the file on disk have been read."""
        return self._file.position()
