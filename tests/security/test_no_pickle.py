"""Nothing that a file holds is unpickled, evaluated or imported."""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import dlrm
from dlrm.checkpoints.dense import read_dense
from dlrm.checkpoints.files import RowsFile
from dlrm.config.errors import UserError
from dlrm.config.table_options import Pretrained
from dlrm.data.catalogue import Catalogue
from dlrm.data.contract.contract import Contract
from dlrm.data.storage.vectors import VectorFile
from tests.security.hostile import Payload, pickled

PACKAGE = Path(dlrm.__file__).parent
OWN_PROCESSES = {
    "data/preparation/worker.py",
    "data/preparation/workers.py",
}
"""Pickle goes over a socket to processes that the program started itself."""
YARDSTICKS = {"bench/checkpoint.py": {"torch.load", "torch.save"}}
"""What our own format is timed against, on a file written a moment before."""
REFUSED_NAMES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
REFUSED_CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save",
    "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


@pytest.mark.parametrize("file", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_of_the_package_reads_what_could_execute(file: Path):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name_here = file.relative_to(PACKAGE).as_posix()
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    if name_here not in OWN_PROCESSES:
        assert not imported & REFUSED_NAMES
    for name, node in calls(tree):
        refused = REFUSED_CALLS - YARDSTICKS.get(name_here, set())
        assert name not in refused, f"line {node.lineno}"
        if name in ("np.load", "numpy.load", "np.save", "np.savez"):
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert options.get("allow_pickle") == "False", f"line {node.lineno}"
        if name == "yaml.load":
            assert "_PlainLoader" in ast.unparse(node), f"line {node.lineno}"


def torch_checkpoint(proof: Path) -> bytes:
    out = io.BytesIO()
    torch.save({"weight": Payload(proof)}, out)
    return out.getvalue()


def object_array(proof: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Payload(proof)], dtype=object), allow_pickle=True)
    return out.getvalue()


def npz_of_objects(proof: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rows.npy", object_array(proof))
    return out.getvalue()


def header_without_end(proof: Path) -> bytes:
    del proof
    return (2**62).to_bytes(8, "little") + b"{" * 100


def header_as_long_as_memory(proof: Path) -> bytes:
    del proof
    return (2**34).to_bytes(8, "little") + b"{}" + b" " * 1000


def offsets_beyond_the_file(proof: Path) -> bytes:
    del proof
    header = (
        b'{"weight":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'
    )
    return len(header).to_bytes(8, "little") + header


HOSTILE = [
    pickled, torch_checkpoint, object_array, npz_of_objects, header_without_end,
    header_as_long_as_memory, offsets_beyond_the_file,
]  # fmt: skip


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "proof"


def test_the_payloads_of_these_tests_do_work(proof: Path):
    pickle.loads(pickled(proof))
    assert proof.exists()
    proof.unlink()
    torch.load(io.BytesIO(torch_checkpoint(proof)), weights_only=False)
    assert proof.exists()
    proof.unlink()
    np.load(io.BytesIO(object_array(proof)), allow_pickle=True)
    assert proof.exists()


@pytest.mark.parametrize("content", HOSTILE)
def test_dense_tensors_of_a_checkpoint(content, tmp_path: Path, proof: Path):
    (tmp_path / "dense.safetensors").write_bytes(content(proof))
    with pytest.raises(UserError, match=r"dense.safetensors is missing or damaged"):
        read_dense(tmp_path)
    assert not proof.exists()


@pytest.mark.parametrize("content", HOSTILE)
def test_rows_of_a_table_of_a_checkpoint(content, tmp_path: Path, proof: Path):
    (tmp_path / "rows_0_4.safetensors").write_bytes(content(proof))
    with pytest.raises(UserError, match="missing or damaged"):
        RowsFile(tmp_path, "rows_0_4.safetensors", 0, 4).read()
    assert not proof.exists()


@pytest.mark.parametrize("content", HOSTILE)
def test_the_documents_of_a_run(content, tmp_path: Path, proof: Path):
    (tmp_path / "documents.safetensors").write_bytes(content(proof))
    with pytest.raises(UserError, match="cannot be read"):
        Catalogue.load(tmp_path)
    assert not proof.exists()


@pytest.mark.parametrize("content", HOSTILE)
def test_vectors_that_tables_start_from(content, tmp_path: Path, proof: Path):
    path = tmp_path / "vectors.npy"
    path.write_bytes(content(proof))
    with pytest.raises(UserError):
        VectorFile(Pretrained(path=str(path)), key="tables.a.pretrained", dim=4)
    assert not proof.exists()


@pytest.mark.parametrize("content", HOSTILE)
def test_hashes_of_a_data_contract(content, tmp_path: Path, proof: Path, trained):
    for name in ("contract.json", "contract_rows.npy", "contract_ids.npy"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    assert Contract.load(tmp_path) is not None
    (tmp_path / "contract_rows.npy").write_bytes(content(proof))
    with pytest.raises(UserError, match="damaged"):
        Contract.load(tmp_path)
    assert not proof.exists()
