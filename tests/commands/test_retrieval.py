"""Retrieval from end to end, on a log whose affinities are planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.predict import predict
from dlrm.commands.train import resume, train
from dlrm.config.errors import ConfigError, DataError
from dlrm.run import Run
from tests.runs import digest

NUM_USERS, NUM_FILMS, NUM_TOPICS, NUM_ROWS = 100, 120, 8, 12_000
PRESET = """
name: log
format: table
label: clicked
id_column: visit
sparse_features:
  user: {}
  film: {}
  topics: {multi_hot: true, delimiter: pipe}
split: column
split_column: part
"""


@dataclass(frozen=True)
class Log:
    frame: pd.DataFrame
    affinity: np.ndarray
    """[NUM_USERS, NUM_FILMS]: how likely each user clicks each film, rows sum to 1."""

    def recall_at_10(self, scores: np.ndarray) -> float:
        """Return the share of test clicks in each user's ten best of ``scores``."""
        clicks = self.frame[(self.frame.part == "test") & (self.frame.clicked == 1)]
        users = clicks.user.str[1:].astype(int)
        films = clicks.film.str[1:].astype(int)
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return float(
            np.mean([f in listed[u] for u, f in zip(users, films, strict=True)])
        )


def planted_log() -> Log:
    """Return clicks of users on films of their topic, mostly, and on popular ones."""
    random = np.random.default_rng(0)
    topic_of_user = random.integers(0, NUM_TOPICS, NUM_USERS)
    topic_of_film = random.permutation(NUM_FILMS) % NUM_TOPICS
    popularity = 1 / np.arange(1, NUM_FILMS + 1) ** 0.7
    likes = topic_of_user[:, None] == topic_of_film
    affinity = popularity * np.where(likes, 40, 1)
    affinity /= affinity.sum(axis=1, keepdims=True)
    users = random.integers(0, NUM_USERS, NUM_ROWS)
    clicked = random.random(NUM_ROWS) < 0.8
    films = [
        random.choice(NUM_FILMS, p=affinity[u]) if c else random.integers(NUM_FILMS)
        for u, c in zip(users, clicked, strict=True)
    ]
    part = random.choice(["train", "valid", "test"], NUM_ROWS, p=[0.8, 0.1, 0.1])
    frame = pd.DataFrame(
        {
            "visit": [f"v{i}" for i in range(NUM_ROWS)],
            "clicked": clicked.astype(int),
            "user": [f"u{u}" for u in users],
            "film": [f"f{f}" for f in films],
            "topics": [f"t{topic_of_film[f]}|film" for f in films],
            "part": part,
        }
    )
    return Log(frame, affinity)


TOWERS = (
    "model=two_tower",
    "task.name=retrieval",
    "model.query_features=[user]",
    "model.document_features=[film,topics]",
)
SETTINGS = (
    "data=log",
    "data.source=log.csv",
    "trainer.global_batch_size=512",
    "trainer.num_threads=1",
    "logger.tensorboard=false",
    "optimizer.schedule.decay=constant",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "conf" / "data" / "log.yaml").write_text(PRESET)
    planted_log().frame.to_csv(folder / "log.csv", index=False)
    return folder


@pytest.fixture
def at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = train(
            *TOWERS, *SETTINGS, "run_name=run", "trainer.num_epochs=4", report=quiet
        )
    return Run(folder / run.folder, run.config, run.schema)


def quiet(line: str) -> None:
    pass


def test_the_towers_find_what_was_planted_and_beat_popularity_by_far(trained: Run):
    log = planted_log()
    metrics = pd.read_json(trained.evaluation("test") / "metrics.json", typ="series")
    train_clicks = log.frame[(log.frame.part == "train") & (log.frame.clicked == 1)]
    counts = train_clicks.film.str[1:].astype(int).value_counts()
    popular = counts.reindex(range(NUM_FILMS), fill_value=0).to_numpy()
    popularity = log.recall_at_10(np.tile(popular, (NUM_USERS, 1)))
    best = log.recall_at_10(log.affinity)
    assert metrics.recall_at_10 > 2 * popularity
    assert metrics.recall_at_10 > 0.9 * best
    is_test = log.frame.part == "test"
    assert metrics.num_examples == is_test.sum()
    assert metrics.num_queries == (is_test & (log.frame.clicked == 1)).sum()
    assert metrics.num_documents == log.frame.film.nunique()


def test_predictions_stand_row_for_row_under_raw_names(trained: Run):
    log = planted_log()
    found = pd.read_parquet(trained.evaluation("test") / "predictions.parquet")
    test = log.frame[log.frame.part == "test"].reset_index(drop=True)
    assert found.document.tolist() == test.film.tolist()
    assert found.label.tolist() == test.clicked.tolist()
    assert found.visit.tolist() == test.visit.tolist()
    assert (found["found"].str.len() == 10).all()
    listed = [d in f for d, f in zip(found.document, found["found"], strict=True)]
    untied = found["rank"] % 1 == 0
    assert (np.array(listed) == (found["rank"] <= 10))[untied].all()


def test_predict_lists_documents_for_rows_that_name_none(trained: Run, at_work: Path):
    asked = pd.DataFrame(
        {
            "visit": ["a", "b", "c"],
            "user": ["u3", "u7", "u3"],
            "film": None,
            "topics": "",
        }
    )
    found = predict(trained.folder, asked)
    assert found.visit.tolist() == ["a", "b", "c"]
    assert (
        found.loc[0].drop(["row", "visit"]).equals(found.loc[2].drop(["row", "visit"]))
    )
    scores = found[[f"score_{i}" for i in range(1, 11)]].to_numpy()
    assert (np.diff(scores, axis=1) <= 0).all()
    affinity = planted_log().affinity
    for row, user in enumerate([3, 7]):
        first = int(found.loc[row, "document_1"][1:])
        assert affinity[user, first] > affinity[user].mean()


def test_a_labelled_file_is_judged_against_the_runs_own_documents(
    trained: Run, at_work: Path
):
    rows = planted_log().frame.head(40).copy()
    rows.loc[:4, "film"] = "a film of tomorrow"
    rows["clicked"] = 1
    rows.to_csv("new.csv", index=False)
    metrics = evaluate(trained.folder, input="new.csv", report=quiet)
    assert metrics["num_queries"] == 40
    assert metrics["num_unknown_documents"] == 5
    assert metrics["num_documents"] == NUM_FILMS
    found = pd.read_parquet(trained.evaluation("new") / "predictions.parquet")
    assert found.document.isna().tolist() == [True] * 5 + [False] * 35
    assert found["rank"].isna().tolist() == [True] * 5 + [False] * 35


def test_a_resumed_run_is_the_undisturbed_one(at_work: Path):
    settings = [*TOWERS, *SETTINGS, "model.dropout=0.1"]
    short = train(*settings, "run_name=short", report=quiet)
    whole = train(*settings, "run_name=whole", "trainer.num_epochs=2", report=quiet)
    resume(short.folder, "trainer.num_epochs=2", report=quiet)
    last = whole.checkpoints / "step_000000038"
    assert last.is_dir()
    assert digest(short.checkpoints / last.name) == digest(last)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (TOWERS[:1] + TOWERS[2:], r"task\.name must be retrieval for model=two_tower"),
        (TOWERS[1:2], r"model\.name must be .*two_tower.*but dlrm"),
        (TOWERS[:3], r"model\.document_features must name features.*is empty"),
        ((*TOWERS[:3], "model.document_features=[film]"), "'topics' is in neither"),
        (
            (*TOWERS, "trainer.monitor=auc"),
            r"trainer\.monitor must be one of recall_at",
        ),
        ((*TOWERS, "trainer.positive_weight=2"), r"positive_weight must be 1.*is 2"),
        (("data.all_clicks=true",), r"data\.all_clicks must be false.*is True"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_data_is_prepared(
    at_work: Path, overrides: tuple[str, ...], message: str
):
    with pytest.raises(ConfigError, match=message):
        train("data.prepared=none", *SETTINGS, *overrides, report=quiet)
    assert not (at_work / "none").exists()


def test_a_log_of_clicks_alone_is_taken_when_asked_for(at_work: Path):
    rows = planted_log().frame
    rows[rows.clicked == 1].head(600).to_csv("clicks.csv", index=False)
    settings = [*TOWERS, *SETTINGS[2:], "data=log", "data.source=clicks.csv"]
    with pytest.raises(DataError, match="is 1 in all.*data.all_clicks=true"):
        train(*settings, report=quiet)
    run = train(*settings, "data.all_clicks=true", "run_name=clicks", report=quiet)
    metrics = pd.read_json(run.evaluation("test") / "metrics.json", typ="series")
    assert metrics.num_queries == metrics.num_examples


def test_a_validation_split_without_clicks_is_refused(at_work: Path):
    rows = planted_log().frame.head(400)
    rows.loc[rows.part == "valid", "clicked"] = 0
    rows.to_csv("cold.csv", index=False)
    settings = [*TOWERS, *SETTINGS[2:], "data=log", "data.source=cold.csv"]
    with pytest.raises(ConfigError, match="monitor=recall_at_10 needs .* with clicks"):
        train(*settings, report=quiet)
