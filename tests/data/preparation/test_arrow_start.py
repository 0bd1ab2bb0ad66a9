"""A process of our own never imports pandas; a user's keeps what it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import sys
import numpy as np
import pyarrow as pa
from dlrm.data.preparation.arrow_start import go_without_pandas, settle_pandas
go_without_pandas()
settle_pandas()
pa.array(np.ones(3)).to_numpy()
pa.table({"a": ["x", None]}).column("a").combine_chunks().dictionary_encode()
print("pandas" in sys.modules)
import pandas
print(pa.array(pandas.array([1, 2]).to_numpy()).to_pylist())
"""
WITH = """
import sys
from dlrm.data.preparation.arrow_start import go_without_pandas, settle_pandas
settle_pandas()
print("pandas" in sys.modules)
go_without_pandas()
import pyarrow as pa
print(pa.table({"a": [1]}).to_pandas().shape)
"""
PREPARED = """
import sys
from dlrm.commands.main import run
sys.argv = ["dlrm", "prepare", "data.synthetic.num_rows=2000"]
try:
    run()
finally:
    print("pandas" in sys.modules)
"""


def run(code: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_arrow_looks_in_vain(tmp_path: Path):
    assert run(WITHOUT, tmp_path) == ["False", "[1, 2]"]


def test_pandas_that_is_there_stays(tmp_path: Path):
    assert run(WITH, tmp_path) == ["True", "(1, 1)"]


def test_prepare_as_a_program_goes_without(tmp_path: Path):
    assert run(PREPARED, tmp_path)[-1] == "False"
