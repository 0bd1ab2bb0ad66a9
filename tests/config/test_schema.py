"""A stored schema comes back as it was, or is named as damaged."""

import pytest

from dlrm.config.errors import DatasetError
from dlrm.config.schema import SCHEMA_FILE, FeatureSchema
from tests.builders import small_schema


def test_a_saved_schema_is_read_back(tmp_path):
    small_schema().save(tmp_path)
    assert FeatureSchema.load(tmp_path) == small_schema()


@pytest.mark.parametrize("flip", [0x80, 0x01, 0x10])
def test_a_damaged_byte_is_a_dataset_error_or_harmless(flip):
    whole = small_schema().to_json().encode()
    num_refused = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= flip
        try:
            FeatureSchema.from_json(bytes(damaged))
        except DatasetError:
            num_refused += 1
    assert num_refused > 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be JSON as dlrm prepare writes it, but it is damaged"),
        ('{"format_version": 2}', "damaged.*splits"),
        ('{"format_version": 99}', "must have format_version 2, but it has 99"),
        ("", "damaged"),
    ],
)
def test_what_is_no_schema_is_named(tmp_path, text, message):
    (tmp_path / SCHEMA_FILE).write_text(text)
    with pytest.raises(DatasetError, match=message):
        FeatureSchema.load(tmp_path)
