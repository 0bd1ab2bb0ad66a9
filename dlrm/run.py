"""A run directory: all it takes to repeat, resume, judge and serve one training run."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlrm.checkpoints.load import load_checkpoint
from dlrm.checkpoints.rotation import best_checkpoint, list_checkpoints
from dlrm.config.compose import CONFIG_FILE, load_config, save_config
from dlrm.config.durable import write_whole, writing_to
from dlrm.config.errors import ConfigError, DataError, RunError
from dlrm.config.root import Config
from dlrm.config.schema import SCHEMA_FILE, FeatureSchema
from dlrm.config.sharding import CommunicationConfig
from dlrm.config.strangers import parse_json, refuse_links
from dlrm.config.towers import TowersConfig
from dlrm.data.catalogue import build_catalogue
from dlrm.data.contract.contract import copy_contract
from dlrm.data.contract.enforcement import judge_dataset
from dlrm.data.contract.findings import FINDINGS_FILE, findings_text
from dlrm.data.preparation.claim import claimed, remove_abandoned
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.manifest import MANIFEST_FILE as FILES_FILE
from dlrm.distributed.job import ALONE, Job
from dlrm.distributed.restart import launch_id
from dlrm.models import build_model, check_task, model_config
from dlrm.planning.place import place_tables_of
from dlrm.surroundings import data_checksum, surroundings

MANIFEST_FILE = "manifest.json"
PROVENANCE = (
    "created", "data_fingerprint", "git_revision", "packages", "platform", "seed",
)  # fmt: skip
"""What a report tells of a run's manifest."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory with its config and schema read."""

    folder: Path
    config: Config
    schema: FeatureSchema
    """With the widths and pooling that the run's model was built with."""

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def evaluation(self, split: str) -> Path:
        """Return the folder of a split's evaluation."""
        return self.folder / "evaluation" / split

    def manifest(self) -> dict[str, Any]:
        """Return the manifest: versions, data, machine and command.

        Raises:
            RunError: It is damaged.
        """
        try:
            content = dict(parse_json((self.folder / MANIFEST_FILE).read_text()))
            missing = [name for name in PROVENANCE if name not in content]
            if missing or not isinstance(content["dataset"], str):
                raise ValueError(f"without {', '.join(missing) or 'a dataset'}")
            return content
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{self.folder / MANIFEST_FILE} must be a JSON object with all that a "
                f"run was made of, but it is damaged. Bring it back, or train anew."
            ) from error


def create_run(
    config: Config, *, dataset: Path, code: list[Path], job: Job = ALONE
) -> Run:
    """Make a new run directory under ``config.output``, whole or not at all.

    Raises:
        RunError: ``run_name`` names a directory that exists.
        WriteError: It cannot be written.
    """
    schema = model_schema(config, FeatureSchema.load(dataset))
    model = model_config(config.model)
    check_task(model, config.task.resolved(schema.label_kind))
    folder = new_folder(config)
    aside = folder.with_name(f".creating-{os.getpid()}-{uuid.uuid4().hex}")
    remove_abandoned(folder.parent, ".creating-*")
    with writing_to(folder), claimed(aside):
        save_config(config, aside / CONFIG_FILE)
        schema.save(aside)
        if (dataset / "vocabularies").is_dir():
            shutil.copytree(dataset / "vocabularies", aside / "vocabularies")
        copy_contract(dataset, aside)
        findings = judge_dataset(dataset, config.data)
        (aside / FINDINGS_FILE).write_text(findings_text(findings), encoding="utf-8")
        if isinstance(model, TowersConfig):
            opened = Dataset.open(dataset, verify=False)
            build_catalogue(opened, model.document_features).save(aside)
        if code:
            (aside / "code").mkdir()
            for path in code:
                shutil.copy(path, aside / "code" / path.name)
        manifest = _manifest(config, dataset=dataset, schema=schema, code=code, job=job)
        (aside / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        folder = _publish(aside, config)
    return Run(folder, config, schema)


def _publish(aside: Path, config: Config) -> Path:
    """Rename to a new folder, or to the next where another run has just taken it."""
    while True:
        folder = new_folder(config)
        try:
            return aside.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise


def amend_manifest(run: Run, **entries: Any) -> None:
    """Add entries to a run's manifest; the file is replaced whole."""
    text = json.dumps({**run.manifest(), **entries}, indent=2) + "\n"
    write_whole(run.folder / MANIFEST_FILE, text)


def open_run(folder: Path) -> Run:
    """Open a run directory.

    Raises:
        RunError: The directory is missing, is not a run's, or has links that lead out.
    """
    for name in (CONFIG_FILE, SCHEMA_FILE, MANIFEST_FILE):
        if not (folder / name).is_file():
            raise RunError(
                f"A run directory must hold {name}, but {folder} does not. "
                f"Give the directory that dlrm train printed, such as outputs/<run>."
            )
    refuse_links(folder, RunError)
    return Run(folder, load_config(folder / CONFIG_FILE), FeatureSchema.load(folder))


def with_settings(run: Run, overrides: Sequence[str]) -> Run:
    """Return a run with some settings changed for one command; its files stay.

    Raises:
        ConfigError: A setting does not fit.
    """
    if not overrides:
        return run
    config = load_config(run.folder / CONFIG_FILE, overrides)
    return dataclasses.replace(run, config=config)


def model_schema(config: Config, schema: FeatureSchema) -> FeatureSchema:
    """Return a dataset's schema with the config's widths, pooling, table options."""
    model = model_config(config.model)
    return schema.with_model_options(config.data.sparse_features, config.tables, model)


def load_model(
    run: Run, *, checkpoint: Path, device: torch.device, job: Job = ALONE
) -> nn.Module:
    """Build the run's model with the weights of a checkpoint.

    The model is in evaluation mode and holds no optimizer state. On several processes
    its tables lie on all of them together, vectors travel unrounded, and no table is
    kept twice for the sake of training.

    Raises:
        RunError: The checkpoint is missing or damaged.
        UserError: The tables do not fit the processes.
    """
    model = build_model(model_config(run.config.model), run.schema)
    sharding = dataclasses.replace(
        run.config.sharding,
        exact=False,  # Said of training alone.
        communication=CommunicationConfig(),
        replicas=1,
        sync_every=1,
    )
    # The kernels of training, so that vectors are equal to the bit, without its state.
    place_tables_of(
        model,
        job=job,
        device=device,
        optimizer=run.config.optimizer.sparse,
        sharding=sharding,
        hardware=run.config.hardware,
        global_batch_size=run.config.trainer.global_batch_size,
        trainable=False,
    )
    load_checkpoint(checkpoint, model=model, dense_optimizer=None, job=job)
    return model.eval()


def find_checkpoint(run: Run, name: str) -> Path:
    """Return a checkpoint's folder: ``best``, ``last`` or its own name.

    Raises:
        RunError: There is none of that name.
    """
    if name == "best":
        return best_checkpoint(run.checkpoints)
    found = list_checkpoints(run.checkpoints)
    if name == "last" and found:
        return found[-1]
    for folder in found:
        if folder.name == name:
            return folder
    raise RunError(
        f"checkpoint must be best, last or one of "
        f"{', '.join(folder.name for folder in found) or 'none yet'}, "
        f"but it is '{name}'."
    )


def open_dataset(run: Run, *, split: str | None = None) -> Dataset:
    """Open the dataset a run was trained on, preparing it anew where it is gone.

    ``split`` is the only one whose rows will be read, None for all.

    Raises:
        RunError: The data is not what the run was trained on, or is gone.
    """
    folder = Path(run.manifest()["dataset"])
    if not folder.is_dir():
        _check_place(Path(run.config.data.prepared))
        try:
            folder = prepare_dataset(run.config.data)
        except (ConfigError, DataError) as error:
            raise RunError(
                f"The run's dataset must be there or be prepared anew, but {folder} is "
                f"gone, and: {error} Rows that came as a DataFrame are prepared with "
                f"dlrm.prepare(..., frame=frame)."
            ) from error
    dataset = Dataset.open(folder, split=split)
    if dataset.schema.fingerprint != run.schema.fingerprint:
        raise RunError(
            f"The dataset must have the run's fingerprint "
            f"{run.schema.fingerprint[:12]}, but {folder} has "
            f"{dataset.schema.fingerprint[:12]}: the raw files or settings have "
            f"changed since. Bring the old data back, or train anew."
        )
    return dataset


def _check_place(prepared: Path) -> None:
    """Refuse to prepare where a stranger's run says, unless datasets lie there.

    Raises:
        RunError: The folder is neither below the current one nor one of datasets.
    """
    place = prepared.resolve()
    if place.is_relative_to(Path.cwd()):
        return
    found = list(place.iterdir()) if place.is_dir() else [place]
    if not all(path.name.startswith(".tmp-") or _is_dataset(path) for path in found):
        raise RunError(
            f"The run's dataset is gone, and its config would prepare it anew in "
            f"{prepared}, which is neither below the current directory nor a folder "
            f"of prepared datasets. Make that folder, or prepare the data yourself "
            f"with dlrm prepare."
        )


def _is_dataset(folder: Path) -> bool:
    return (folder / FILES_FILE).is_file()


@contextmanager
def removed_unless_built(run: Run) -> Iterator[None]:
    """Leave no directory of a new run whose model or optimizer could not be built."""
    try:
        yield
    except BaseException:
        shutil.rmtree(run.folder)
        raise


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Hold the run directory: two trainings must not write to one.

    Raises:
        RunError: Another process holds it.
    """
    with (run.folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"One process at a time may train a run, but another one is training "
                f"{run.folder}. Wait for it, or stop it."
            ) from error
        yield


def new_folder(config: Config) -> Path:
    """Return a folder for a new run that does not exist yet.

    Raises:
        RunError: ``run_name`` names one that does.
    """
    output = Path(config.output)
    if config.run_name is not None:
        folder = output / config.run_name
        if folder.exists():
            raise RunError(
                f"run_name must name a new run, but {folder} exists. Choose another "
                f"name, or go on with that run: dlrm train run={folder}"
            )
        return folder
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    stem = f"{now}-{config.data.name}-{config.model['name']}"
    folder, count = output / stem, 1
    while folder.exists():
        count += 1
        folder = output / f"{stem}-{count}"
    return folder


def _manifest(
    config: Config,
    *,
    dataset: Path,
    schema: FeatureSchema,
    code: list[Path],
    job: Job,
) -> dict[str, Any]:
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        ),
        "command": sys.argv,
        **surroundings(config, world_size=job.world_size),
        "code": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in code
        },
        "dataset": str(dataset.resolve()),
        "data_fingerprint": schema.fingerprint,
        "data_checksum": data_checksum(dataset),
        "splits": {n: dataclasses.asdict(s) for n, s in schema.splits.items()},
        "seed": config.trainer.seed,
        "launch": launch_id(),
    }
