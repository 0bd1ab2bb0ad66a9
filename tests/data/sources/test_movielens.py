from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.data import (
    BadRows,
    DataConfig,
    MovielensSource,
    SourceFormat,
    Split,
)
from dlrm.config.errors import DataError
from dlrm.config.features import SparseFeature
from dlrm.data.sources import open_source

CTR_COLUMNS = (
    *("user_id", "gender", "age", "occupation", "zip"),
    *("movie_id", "release_year", "genres", "rating_row"),
)


def config(source, **settings):
    return DataConfig(
        name="m", format=SourceFormat.movielens, source=str(source), **settings
    )


def read(data, **options):
    source = open_source(data, **options)
    return pa.concat_tables(chunk.table for chunk in source.chunks()).to_pylist()


@pytest.fixture
def dat(tmp_path):
    """The 1M layout, its titles in latin-1."""
    (tmp_path / "ratings.dat").write_text(
        "7::1::5::978300760\n8::2::3::0\n7::2::1::0\n"
    )
    (tmp_path / "users.dat").write_text("8::F::1::10::00048\n7::M::56::16::70072\n")
    movies = (
        "1::Misérables, Les (1995)::Drama|Musical\n2::Movie: 2 (1990-1991)::Action\n"
    )
    (tmp_path / "movies.dat").write_bytes(movies.encode("latin-1"))
    return tmp_path


def test_ratings_are_joined_and_the_middle_one_is_dropped(dat):
    first, second = read(config(dat))
    assert first == {
        "label": 1,
        "rating": 5.0,
        "user_id": "7",
        "movie_id": "1",
        "gender": "M",
        "age": "56",
        "occupation": "16",
        "zip": "70072",
        "title": "Misérables, Les (1995)",
        "release_year": "1995",
        "genres": "Drama|Musical",
        "timestamp": 978300760,
        "rating_row": 0,
    }
    assert second["label"] == 0
    assert second["rating_row"] == 2
    assert second["timestamp"] is None
    assert second["release_year"] == "1990"


def test_the_threshold_and_the_middle_rating_are_settings(dat):
    options = MovielensSource(rating_threshold=1.0, drop_threshold_rating=False)
    assert [row["label"] for row in read(config(dat, movielens=options))] == [1, 1, 0]
    assert len(read(config(dat), with_labels=False)) == 3


def test_lines_are_those_of_the_ratings_file(dat):
    (chunk,) = open_source(config(dat)).chunks()
    assert chunk.rows.tolist() == [1, 3]
    assert chunk.file.endswith("ratings.dat")


def test_the_csv_layout_has_no_users_and_marks_missing_genres(tmp_path):
    ratings = "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n1,20,0.5,1\n"
    (tmp_path / "ratings.csv").write_text(ratings)
    movies = 'movieId,title,genres\n10,"American President, The (1995)",Comedy|Drama\n'
    movies += "20,Untitled é,(no genres listed)\n"
    (tmp_path / "movies.csv").write_text(movies, encoding="utf-8")
    first, second = read(config(tmp_path))
    assert first["title"] == "American President, The (1995)"
    assert (first["label"], first["release_year"]) == (1, "1995")
    assert (second["genres"], second["release_year"]) == (None, None)
    assert [row["rating_row"] for row in (first, second)] == [0, 1]
    data = config(tmp_path, sparse_features={"gender": SparseFeature()})
    with pytest.raises(DataError, match=r"columns gender, .* data=movielens_csv"):
        open_source(data)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "9::1::5::1",
            "line 4: the row has user_id '9', which has no row in users.dat",
        ),
        (
            "7::3::5::1",
            "line 4: the row has movie_id '3', which has no row in movies.dat",
        ),
        ("7::1::good::1", "line 4: the row must have a rating that is a number"),
        ("7::1::5::noon", "line 4: the row must have a timestamp that is a number"),
        ("7::1::5", "line 4: the row has 3 columns where 4 must stand"),
    ],
)
def test_a_bad_rating_is_named_or_left_out(dat, line, reason):
    with (dat / "ratings.dat").open("a") as file:
        file.write(f"{line}\n7::1::4::5\n")
    with pytest.raises(DataError, match=f"ratings.dat, {reason}"):
        read(config(dat))
    chunks = list(open_source(config(dat, bad_rows=BadRows.skip)).chunks())
    assert [bad.row for chunk in chunks for bad in chunk.quarantined] == [4]
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == [1, 3, 5]


def test_missing_files_and_doubled_users_are_named(dat):
    with (dat / "users.dat").open("a") as file:
        file.write("7::M::1::1::1\n")
    with pytest.raises(DataError, match=r"one row for each user_id, but 7 has several"):
        read(config(dat))
    (dat / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"must hold movies\.dat beside ratings\.dat"):
        open_source(config(dat))
    (dat / "ratings.dat").unlink()
    with pytest.raises(DataError, match=r"ratings\.dat or ratings\.csv, but .* users"):
        open_source(config(dat))


@pytest.mark.slow
def test_the_raw_files_give_the_rows_of_the_published_split(real_data):
    raw = [chunk.table for chunk in open_source(config(real_data / "ml-1m")).chunks()]
    table = pa.concat_tables(raw)
    order = list(range(table.num_rows))
    random.seed(2019)
    random.shuffle(order)
    first, second = len(order) * 8 // 10, len(order) // 10
    dealt = {
        "train": order[:first],
        "valid": order[first : first + second],
        "test": order[first + second :],
    }
    data = DataConfig(
        name="ctr",
        format=SourceFormat.table,
        source=str(real_data / "ml-1m-ctr"),
        split=Split.files,
        files={split: [f"{split}.csv.gz"] for split in dealt},
        sparse_features={name: SparseFeature() for name in CTR_COLUMNS},
    )
    chunks = list(open_source(data).chunks())
    for split, places in dealt.items():
        fixed = pa.concat_tables(
            c.table for c in chunks if c.split == split
        ).to_pandas()
        ours = table.take(pa.array(places)).select(list(fixed)).to_pandas()
        ours["genres"] = ours["genres"].str.replace("|", "^")
        assert (ours.astype(str).to_numpy() == fixed.to_numpy()).all()
