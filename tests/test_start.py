"""What is not imported before the first step: a list, as times depend on machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlrm.config.compose import compose
from dlrm.data.preparation.prepare import prepare_dataset
from tests.runs import tiny_overrides

NOT_BEFORE_TORCH = ["torch", "torchrec", "fbgemm_gpu", "pandas", "polars", "scipy"]
NOT_YET = [
    "IPython", "aiohttp", "jinja2", "matplotlib", "mlflow", "polars", "scipy",
    "sklearn", "tensorboard", "tensorflow", "wandb", "dlrm.evaluation.page",
    "dlrm.scoring",
]  # fmt: skip
"""What training needs at its first log line, at its end or never."""

AT_FIRST_STEP = """
import sys
import dlrm.trainer
from dlrm.commands.main import main

def stop(trainer, batch):
    print("imported", *[name for name in {names!r} if name in sys.modules])
    sys.exit()

dlrm.trainer.Trainer._train_step = stop
main({arguments!r})
"""


def imported(code: str, folder: Path) -> list[str]:
    """Return the names that a program prints after the word ``imported``."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("imported")]
    assert lines, done.stderr
    return lines[0].split()[1:]


@pytest.mark.parametrize(
    "doing",
    [
        "from dlrm.commands.main import main; main(['train', '--help'])",
        "import dlrm.commands.train; from dlrm.config.compose import compose; "
        "compose(['data=criteo_kaggle', 'workload=w1', 'trainer.seed=1'])",
    ],
    ids=["help", "compose"],
)
def test_what_comes_before_torch_imports_nothing_large(doing: str, tmp_path: Path):
    names = f"[name for name in {NOT_BEFORE_TORCH!r} if name in sys.modules]"
    code = f"import sys; {doing}; print('imported', *{names})"
    assert imported(code, tmp_path) == []


@pytest.mark.slow
def test_a_run_on_prepared_data_takes_its_first_step_without_what_comes_later(
    tmp_path: Path,
):
    overrides = tiny_overrides(tmp_path, prepared=tmp_path / "prepared")
    overrides.remove("logger.tensorboard=false")
    prepare_dataset(compose(overrides).data)
    code = AT_FIRST_STEP.format(names=NOT_YET, arguments=["train", *overrides])
    assert imported(code, tmp_path) == []
