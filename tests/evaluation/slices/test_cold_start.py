import numpy as np
import pandas as pd
import pytest

from dlrm.config.compose import compose
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.evaluation.slices.cold_start import (
    UnseenIds,
    cold_start,
    unseen_of_input,
    unseen_of_split,
)
from dlrm.evaluation.slices.measures import EvaluatedRows


def rows_of(num_rows, num_new, *, seed=0):
    """Return rows of which exactly ``num_new`` have a new item, and the last a tag."""
    random = np.random.default_rng(seed)
    items = [f"i{i}" for i in random.integers(0, 40, num_rows - num_new)]
    items += [f"new{i}" for i in range(num_new)]
    tags = ["a|b"] * (num_rows - 2) + ["a|never", ""]
    return pd.DataFrame(
        {
            "item": np.array(items)[random.permutation(num_rows)],
            "tags": tags,
            "place": "x",
            "clicked": (random.random(num_rows) < 0.4).astype(int),
        }
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    preset = folder / "conf" / "data" / "rows.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(
        "name: rows\nformat: table\nlabel: clicked\nsplit: source\n"
        "sparse_features:\n  item: {}\n"
        "  tags: {multi_hot: true, delimiter: pipe}\n"
        "  place: {encoding: hash, num_embeddings: 10}\n"
        "  other: {out_of_range: hash, column: item}\n"
    )
    train = rows_of(4_000, 0)
    train["tags"] = "a|b"
    frames = {"train": train, "test": rows_of(10_000, 2_000, seed=1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = compose(["data=rows", f"data.prepared={folder}"]).data
        return Dataset.open(prepare_dataset(data, frame=frames))


def test_a_split_with_a_fifth_of_new_ids_reports_a_fifth(dataset):
    found = {f.feature: f for f in unseen_of_split(dataset, "test", np.arange(10_000))}
    item = found["item"]
    assert (item.num_ids, item.num_unseen) == (10_000, 2_000)
    raw = rows_of(10_000, 2_000, seed=1)["item"].str.startswith("new")
    assert item.rows.tolist() == raw.tolist()
    tags = found["tags"]
    # 9,999 bags of two tags and an empty one.
    assert (tags.num_ids, tags.num_unseen) == (19_998, 1)
    assert np.flatnonzero(tags.rows).tolist() == [9_998]
    assert "encoding=hash" in found["place"].unknown
    assert "out_of_range=hash" in found["other"].unknown


def test_some_rows_of_a_split_have_their_own_marks(dataset):
    ids = np.arange(1, 10_000, 7)
    whole = unseen_of_split(dataset, "test", np.arange(10_000))
    some = unseen_of_split(dataset, "test", ids)
    for all_of, part in zip(whole, some, strict=True):
        if not all_of.unknown:
            assert part.rows.tolist() == all_of.rows[ids].tolist()


def scored(num_rows, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 1, num_rows).astype(np.float32)
    labels = (random.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return EvaluatedRows(labels, logits, np.ones(num_rows, np.float32))


def test_rows_with_and_without_new_ids_are_measured_apart(dataset):
    rows = scored(10_000)
    features = unseen_of_split(dataset, "test", np.arange(10_000))
    found = cold_start(rows, features)
    item = found["features"][0]
    assert item["share"] == pytest.approx(0.2, abs=1e-12)
    assert (item["seen"]["rows"], item["unseen"]["rows"]) == (8_000, 2_000)
    clicks = rows.labels[features[0].rows].sum()
    assert item["unseen"]["positives"] == clicks
    assert item["seen"]["positives"] == rows.labels.sum() - clicks
    either = features[0].rows | features[1].rows
    assert found["any"]["unseen"]["rows"] == either.sum()
    unknown = {e["feature"]: e["unknown"] for e in found["features"]}
    assert unknown["place"]
    assert not unknown["item"]


def test_nothing_is_said_where_no_feature_can_tell():
    features = [UnseenIds("h", unknown="encoding=hash")]
    found = cold_start(scored(10), features)
    assert found["any"] is None
    assert found["features"][0]["share"] is None
    assert cold_start(scored(10), [])["any"] is None


def test_an_inputs_rows_are_marked_over_all_its_parts(dataset):
    outside = OutsideIds(keep_rows=True)
    random = np.random.default_rng(0)
    expected = {"item": [], "tags": []}
    for size in (5, 1, 13, 8):
        item = random.random(size) < 0.3
        lengths = random.integers(0, 4, size)
        tags = random.random(int(lengths.sum())) < 0.3
        outside.observe("item", item, None)
        outside.observe("tags", tags, lengths)
        ends = np.cumsum(lengths)
        expected["item"] += item.tolist()
        expected["tags"] += [
            bool(tags[end - length : end].any())
            for end, length in zip(ends, lengths, strict=True)
        ]
    found = {f.feature: f for f in unseen_of_input(outside, dataset.schema)}
    for name, rows in expected.items():
        assert found[name].rows.tolist() == rows
        assert found[name].num_ids == outside.record()[name]["num_ids"]
    assert OutsideIds().rows("item").tolist() == []
