"""How a feature's text becomes a bag of ids: words, word n-grams, character n-grams."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require


@dataclass(kw_only=True, slots=True)
class TextOptions:
    """fastText's dictionary (Joulin et al. 2016; Bojanowski et al. 2016).

    Each word of the vocabulary has a row of its own; n-grams share ``num_buckets``
    rows behind them, by hash. Unknown words have no id of their own but their n-grams.
    """

    lowercase: bool = False
    split_punctuation: bool = False
    """Set each of ``. ! ? , ' / ( )`` apart as a word of its own."""
    end_of_line: bool = True
    """End each text by the word ``</s>``, as fastText does."""
    word_ngrams: int = 1
    """Longest run of neighbouring words with an id; 1 is single words alone."""
    min_chars: int = 0
    max_chars: int = 0
    """Shortest and longest character n-grams of each word, which stands between ``<``
    and ``>``; 0 is none."""
    num_buckets: int = 0
    """Rows that all n-grams share; required where there are any."""

    @property
    def has_ngrams(self) -> bool:
        """Say whether anything is hashed."""
        return self.word_ngrams > 1 or self.max_chars > 0

    def check(self, key: str) -> None:
        """Check ranges; ``key`` is this section's key as typed."""
        require(self.word_ngrams >= 1, f"{key}.word_ngrams", ">= 1", self.word_ngrams)
        low, high = self.min_chars, self.max_chars
        sound = (low == 0 and high == 0) or 1 <= low <= high
        wanted = f"0 with max_chars=0, or 1 to max_chars={high}"
        require(sound, f"{key}.min_chars", wanted, low)
        buckets = self.num_buckets
        require(
            (buckets >= 1) == self.has_ngrams and buckets < 2**31,
            f"{key}.num_buckets",
            "set (2000000 is fastText's) where word_ngrams or max_chars make n-grams, "
            "and 0 where they do not",
            buckets,
        )
