"""``contract.json``: the training rows' profile and what was measured at prepare.

It lies beside ``schema.json`` in a dataset and, copied, in every run; hashes of
training rows and ids are in ``contract_rows.npy`` and ``contract_ids.npy``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.errors import DatasetError
from dlrm.config.schema import FeatureSchema
from dlrm.config.strangers import parse_json
from dlrm.data.contract.measuring import (
    KnownHashes,
    Measurement,
    measure_new,
    measure_training,
)
from dlrm.data.contract.profile import IdProfile, NumberProfile, Profile, profile_of
from dlrm.data.contract.statistics import Gathering
from dlrm.data.storage.npy import save_npy
from dlrm.data.transforms.vocabulary import Vocabulary

CONTRACT_FILE = "contract.json"
_HASH_FILES = {"rows": "contract_rows.npy", "ids": "contract_ids.npy"}
FORMAT_VERSION = 1
_DEALT_BY_FILE = (Split.source, Split.files, Split.column, Split.time)
"""Splits of which the user or time says what is new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """What new rows are held to."""

    profile: Profile
    known: KnownHashes
    measurements: tuple[Measurement, ...] = ()
    """Of the dataset's own splits."""
    columns: dict[str, str] = field(default_factory=dict)
    """Raw columns of the training files by kind; none where a layout is fixed."""

    def save(self, folder: Path) -> None:
        """Write ``contract.json`` and the hashes."""
        content = {
            "format_version": FORMAT_VERSION,
            "profile": dataclasses.asdict(self.profile),
            "measurements": [dataclasses.asdict(m) for m in self.measurements],
            "columns": self.columns,
        }
        text = json.dumps(content, indent=1) + "\n"
        (folder / CONTRACT_FILE).write_text(text, encoding="utf-8")
        for name, file in _HASH_FILES.items():
            save_npy(folder / file, getattr(self.known, name))

    @classmethod
    def load(cls, folder: Path) -> Contract | None:
        """Read what ``save`` wrote; None where a folder is older than contracts.

        Raises:
            DatasetError: It is damaged.
        """
        path = folder / CONTRACT_FILE
        if not path.is_file():
            return None
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version is {content['format_version']}")
            known = {name: _hashes(folder / f) for name, f in _HASH_FILES.items()}
            return cls(
                profile=_profile(content["profile"]),
                known=KnownHashes(**known),
                measurements=tuple(Measurement(**m) for m in content["measurements"]),
                columns={str(k): str(v) for k, v in content["columns"].items()},
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DatasetError(
                f"{path} must be the data contract that dlrm prepare writes, but it is "
                f"damaged ({type(error).__name__}: {error}). Prepare the dataset anew, "
                f"or delete the file to go on without its checks."
            ) from error


def build_contract(
    gathered: Gathering,
    data: DataConfig,
    schema: FeatureSchema,
    *,
    vocabularies: Mapping[str, Vocabulary],
    columns: dict[str, str],
) -> Contract:
    """Return the contract of a dataset whose splits were gathered, in their order."""
    train = gathered.groups[0]
    profile = profile_of(train, schema, vocabularies)
    known = KnownHashes(
        rows=np.unique(train.rows.hashes()), ids=np.unique(train.ids.hashes())
    )
    found = list(measure_training(train, schema))
    for name, group in zip(SPLITS[1:], gathered.groups[1:], strict=True):
        found += measure_new(
            group,
            profile,
            known,
            name=name,
            with_labels=True,
            in_time=data.split in _DEALT_BY_FILE and data.split is not Split.time,
        )
    return Contract(
        profile=profile,
        known=known,
        measurements=tuple(m for m in found if _comparable(m, data)),
        columns=columns,
    )


def measure_input(
    contract: Contract,
    gathered: Gathering,
    data: DataConfig,
    *,
    name: str,
    with_labels: bool,
) -> list[Measurement]:
    """Return what was measured of an input whose rows were gathered."""
    (group,) = gathered.groups
    found = measure_new(
        group,
        contract.profile,
        contract.known,
        name=name,
        with_labels=with_labels,
        in_time=data.split in _DEALT_BY_FILE,
    )
    return [measured for measured in found if _comparable(measured, data)]


def copy_contract(source: Path, target: Path) -> None:
    """Copy a dataset's contract, where it has one, into a run."""
    for name in (CONTRACT_FILE, *_HASH_FILES.values()):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _comparable(measured: Measurement, data: DataConfig) -> bool:
    """Leave out click rates of splits that were thinned otherwise than training."""
    if measured.kind != "label_shift" or data.keep_rate_key is None:
        return True
    return measured.rows in (data.sampled_splits or ())


def _hashes(path: Path) -> np.ndarray:
    found = np.load(path, allow_pickle=False)
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ValueError(f"{path.name} holds {found.dtype} {list(found.shape)}")
    return np.asarray(found)


def _profile(content: dict[str, Any]) -> Profile:
    numbers = {n: NumberProfile(**entry) for n, entry in content["numbers"].items()}
    ids = {n: IdProfile(**entry) for n, entry in content["ids"].items()}
    return Profile(**{**content, "numbers": numbers, "ids": ids})
