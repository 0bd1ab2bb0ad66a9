"""Running text cut into words."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.text import TextOptions
from dlrm.data.columns.canonical_text import canonical_text

END_OF_LINE = "</s>"
SPACES = " \n\r\t\v\f\0"
"""The bytes that separate words, as in fastText."""
_PUNCTUATION = r"([.!?,'/()])"


def cut_words(values: pa.Array, options: TextOptions, what: str) -> pa.ListArray:
    """Return each text's words as a list of strings; some of them may be "".

    Letters become lower-case in the whole of Unicode. A missing text has no words but
    the end of its line.

    Raises:
        DataError: The values are no texts; ``what`` names the column.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    texts = canonical_text(values, what).fill_null("")
    if options.split_punctuation:
        texts = pc.replace_substring_regex(texts, _PUNCTUATION, r" \1 ")
    if options.lowercase:
        texts = pc.utf8_lower(texts)
    if options.end_of_line:
        texts = pc.binary_join_element_wise(texts, END_OF_LINE, " ")
    return pc.split_pattern_regex(texts, r"[ \n\r\t\v\f\x00]+")
