"""Bad settings are refused by a message that names the key as typed and what to do."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError

TABLE = ["data.format=table", "data.synthetic=null", "data.split=random"]
HASHED = "+data.sparse_features.u={encoding: hash, num_embeddings: 9}"
SHARED = [
    "+data.sparse_features.a.table=t",
    "+data.sparse_features.b.table=t",
]
BAD_CONFIGS = {
    # unknown keys
    "a key near another": (
        ["trainer.num_epoch=2"],
        ["trainer.num_epoch is not", "Did you mean trainer.num_epochs?"],
    ),
    "a key inside another": (
        ["trainer.batch_size=2"],
        ["trainer.batch_size is not", "trainer.global_batch_size?"],
    ),
    "a key of another section": (
        ["trainer.lr=0.1"],
        ["trainer.lr is not", "optimizer.sparse.lr or optimizer.dense.lr?"],
    ),
    "a section": (["trainr.seed=1"], ["trainr.seed is not", "Did you mean trainer"]),
    "a key with plus": (
        ["+optimizer.dense.momentum=0.9"],
        ["optimizer.dense.momentum is not", "optimizer.sparse.momentum?"],
    ),
    "a key below a value": (
        ["trainer.seed.value=1"],
        ["trainer.seed.value is not", "a whole number", "no part 'value'"],
    ),
    "a feature that is not there": (
        ["+data.sparse_features.genres.column=g", "data.sparse_features.genre.table=g"],
        ["data.sparse_features.genre.table", "Did you mean genres?", "+data.sparse"],
    ),
    "a feature's key": (
        ["+data.sparse_features.genres.num_embedings=10"],
        ["data.sparse_features.genres.num_embedings is not", "num_embeddings?"],
    ),
    "a removed feature that is not there": (
        ["~data.sparse_features.zip"],
        ["~data.sparse_features.zip", "no 'zip'"],
    ),
    "a removed setting": (["~trainer.seed"], ["~trainer.seed", "another value"]),
    "hydra's own settings": (["hydra.run.dir=x"], ["hydra.run.dir", "output"]),
    # presets
    "a preset": (["data=syntetic"], ["data must be one of", "Did you mean synthetic?"]),
    "an experiment": (["experiment=nosuch"], ["experiment must be", "'nosuch'"]),
    "a removed preset": (["~experiment"], ["~experiment", "experiment=null"]),
    "a group": (["daata=synthetic"], ["daata is not a setting", "Did you mean data?"]),
    # not a setting at all
    "no equals sign": (["trainer.seed"], ["key=value", "'trainer.seed'"]),
    "an unclosed list": (["data.keep=[a,b"], ["data.keep", "'[a,b'"]),
    # types
    "text for a number": (
        ["trainer.num_epochs=many"],
        ["trainer.num_epochs must be a whole number", "'many'"],
    ),
    "a fraction for a count": (
        ["trainer.num_epochs=1.5"],
        ["trainer.num_epochs must be a whole number", "'1.5'"],
    ),
    "text for a rate": (
        ["optimizer.dense.lr=fast"],
        ["optimizer.dense.lr must be a number", "'fast'"],
    ),
    "a word for yes or no": (
        ["logger.tensorboard=perhaps"],
        ["logger.tensorboard must be true or false", "'perhaps'"],
    ),
    "null for a number": (
        ["trainer.seed=null"],
        ["trainer.seed must be a whole number", "null"],
    ),
    "a value for a list": (
        ["data.split_fractions=0.8"],
        ["data.split_fractions must be a list", "0.8"],
    ),
    "a word in a list of numbers": (
        ["data.split_fractions=[0.8,half,0.1]"],
        ["data.split_fractions", "a number", "half"],
    ),
    "a value for a section": (["+trainer=fast"], ["trainer", "'fast'"]),
    "an unknown choice": (
        ["data.split=rondom"],
        [
            "data.split must be one of source, random",
            "'rondom'",
            "Did you mean random?",
        ],
    ),
    "an unknown optimizer": (
        ["optimizer.sparse.name=row_adagrad"],
        ["optimizer.sparse.name must be one of", "Did you mean rowwise_adagrad?"],
    ),
    # ranges
    "a batch of none": (
        ["trainer.global_batch_size=0"],
        ["trainer.global_batch_size must be >= 1", "0"],
    ),
    "a negative rate": (
        ["optimizer.sparse.lr=-0.1"],
        ["optimizer.sparse.lr must be above 0", "-0.1"],
    ),
    "shares that exceed the whole": (
        ["data.split_fractions=[0.8,0.3,0.1]"],
        ["data.split_fractions must be", "sum to 1", "0.3"],
    ),
    "a negative seed": (["trainer.seed=-1"], ["trainer.seed must be in [0, 2^63)"]),
    # contradictions
    "another format's section": (
        ["data.movielens.rating_threshold=3"],
        ["data.movielens must be unset", "synthetic", "Set data.synthetic"],
    ),
    "a time split without time": (
        [*TABLE, "data.split=time"],
        ["data.split=time needs data.time_column", "Set data.time_column"],
    ),
    "a hash without a size": (
        ["+data.sparse_features.u.encoding=hash"],
        ["data.sparse_features.u.num_embeddings must be set for encoding=hash"],
    ),
    "a delimiter of one id": (
        ["+data.sparse_features.u.delimiter=|"],
        ["data.sparse_features.u.delimiter must be unset", "u.multi_hot=true"],
    ),
    "a length of one id": (
        ["+data.sparse_features.u.max_length=3"],
        ["data.sparse_features.u.max_length must be unset", "it is 3"],
    ),
    "a word for a delimiter": (
        ["+data.sparse_features.u={multi_hot: true, delimiter: pip}"],
        ["data.sparse_features.u.delimiter must be", "'pip'", "Did you mean pipe?"],
    ),
    "a clamp without order": (
        ["+data.sparse_features.u.out_of_range=clamp"],
        ["data.sparse_features.u.out_of_range must be error, oov or hash", "clamp"],
    ),
    "buckets without numbers": (
        ["+data.sparse_features.u.num_buckets=8"],
        ["data.sparse_features.u.num_buckets must be left", "encoding to bucketize"],
    ),
    "a frequency without a vocabulary": (
        [HASHED, "data.sparse_features.u.min_frequency=2"],
        ["data.sparse_features.u.min_frequency must be left", "encoding=hash"],
    ),
    "more rows than ids have bits for": (
        ["+data.sparse_features.u={encoding: hash, num_embeddings: 5000000000}"],
        ["data.sparse_features.u.num_embeddings must be at most 2147483647", "5000"],
    ),
    "boundaries that fall": (
        ["+data.sparse_features.u={encoding: bucketize, boundaries: [2, 1]}"],
        [
            "data.sparse_features.u.boundaries must be finite and ascending",
            "[2.0, 1.0]",
        ],
    ),
    "a shared table of two encodings": (
        [*SHARED, "data.sparse_features.b={encoding: identity, num_embeddings: 9}"],
        ["data.sparse_features.b.encoding must be that of 'a'", "table 't'"],
    ),
    "a shared table of two widths": (
        [*SHARED, "data.sparse_features.b.embedding_dim=4"],
        ["data.sparse_features.b.embedding_dim must be that of 'a', 16", "it is 4"],
    ),
    "a shared table with weights and without": (
        [*SHARED, "data.sparse_features.b={multi_hot: true, weight_column: w}"],
        ["data.sparse_features.a.weight_column must be set", "'b'", "table 't'"],
    ),
    "a feature with a dot": (
        ["data.sparse_features={a.b: {}}"],
        ["data.sparse_features.a.b must be a name without dots", "'a.b'"],
    ),
    "a feature that is the label": (
        ["+data.dense_features.x.column=click"],
        ["data.dense_features.x.column must be another column than data.label"],
    ),
    "a data set's name that is a path": (
        ["data.name=a/b"],
        ["data.name must be a name that a folder can have", "'a/b'"],
    ),
    "a limit that is no number": (
        ["+data.dense_features.d.clip_min=nan"],
        ["data.dense_features.d.clip_min must be a finite number", "nan"],
    ),
    "files of no split": (
        [*TABLE, "data.split=files", "data.files={train: [a], tset: [b]}"],
        ["data.files.tset must be one of train, valid, test", "'tset'"],
    ),
    "files without training": (
        [*TABLE, "data.split=files", "data.files={test: [b]}"],
        ["data.files.train must list the training files"],
    ),
    "an encoding": (
        [*TABLE, "data.table.encoding=utf-7-8"],
        ["data.table.encoding must be an encoding", "utf-7-8"],
    ),
    "a separator": (
        [*TABLE, "data.table.separator=semicolo"],
        ["data.table.separator must be a separator", "Did you mean semicolon?"],
    ),
    "column names that repeat": (
        [*TABLE, "data.table.column_names=[a,b,a]"],
        ["data.table.column_names must be names that differ", "['a', 'b', 'a']"],
    ),
    "clip limits that cross": (
        ["+data.dense_features.d={clip_min: 5, clip_max: 1}"],
        ["data.dense_features.d.clip_min must be below clip_max=1"],
    ),
    "a global norm over fused tables": (
        ["optimizer.sparse.clip_norm=1.0"],
        ["optimizer.sparse.clip_norm must be unset", "optimizer.sparse.clip_value"],
    ),
    "accumulation over fused tables": (
        ["trainer.accumulation_steps=4"],
        ["trainer.accumulation_steps must be 1", "trainer.global_batch_size"],
    ),
    "a sweep without -m": (
        ["trainer.seed=1,2"],
        ["trainer.seed must be one value", "add -m"],
    ),
    "two presets without -m": (["model=dlrm,dlrm_dcnv2"], ["one preset", "Add -m"]),
}


def cpu_seconds_of_children() -> float:
    """Return processor time, which other processes on the machine do not lengthen."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_there_are_thirty_bad_configs():
    assert len(BAD_CONFIGS) >= 30


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_config_is_refused_by_name(name: str):
    overrides, fragments = BAD_CONFIGS[name]
    with pytest.raises(ConfigError) as refused:
        compose(overrides)
    message = str(refused.value)
    assert all(fragment in message for fragment in fragments), message
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["a key near another", "an unknown choice", "a preset"]
)
def test_the_command_refuses_a_bad_config_quickly_with_one_message(
    name: str, tmp_path: Path
):
    overrides, fragments = BAD_CONFIGS[name]
    before = cpu_seconds_of_children()
    done = subprocess.run(
        [sys.executable, "-m", "dlrm", "prepare", *overrides],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert cpu_seconds_of_children() - before < 3
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("dlrm prepare: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert all(fragment in done.stderr for fragment in fragments)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_config_is_refused_before_torch_is_imported(tmp_path: Path):
    code = (
        "import sys\n"
        "from dlrm.commands.main import main\n"
        "code = main(['train', 'trainer.num_epoch=2'])\n"
        "print(code, 'torch' in sys.modules, 'pandas' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.split() == ["2", "False", "False"]
