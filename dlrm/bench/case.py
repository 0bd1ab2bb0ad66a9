"""What is measured, as a folder that every contestant's process reads for itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlrm.bench.workload import workload_data, workload_dataset
from dlrm.config.compose import load_config, save_config
from dlrm.config.root import Config

_EPOCHS = 1_000_000  # The rounds end the loop, not the data.
_FILE = "case.json"


@dataclass(frozen=True, slots=True)
class BenchCase:
    """A configuration, its prepared dataset, and how much of it a turn takes."""

    config: Config
    dataset: Path
    num_steps: int
    """Batches of one turn."""
    code: tuple[Path, ...] = ()
    """A user's own files, to be imported first."""

    def save(self, folder: Path) -> None:
        """Write the case into a folder that exists."""
        save_config(self.config, folder / "config.yaml")
        content = {
            "dataset": str(self.dataset.resolve()),
            "num_steps": self.num_steps,
            "code": [str(path.resolve()) for path in self.code],
        }
        (folder / _FILE).write_text(json.dumps(content))

    @classmethod
    def load(cls, folder: Path, import_code: Callable[[list[Path]], None]) -> BenchCase:
        """Read a case back; its code is imported before its model is looked up."""
        content = json.loads((folder / _FILE).read_text())
        code = [Path(path) for path in content["code"]]
        import_code(code)
        return cls(
            config=load_config(folder / "config.yaml"),
            dataset=Path(content["dataset"]),
            num_steps=content["num_steps"],
            code=tuple(code),
        )

    @property
    def name(self) -> str:
        """The workload's name, or the data's."""
        workload = self.config.workload
        return self.config.data.name if workload is None else workload.name


def make_case(
    config: Config,
    *,
    output: Path,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> BenchCase:
    """Return the case of a configuration, its dataset written or prepared if needed.

    Runs of it are kept below ``output``. A workload stands in for ``data``.

    Raises:
        UserError: The data cannot be prepared.
    """
    workload, prepared = config.workload, config.data.prepared
    if workload is not None:
        data = workload_data(workload, prepared=prepared)
        report(f"Data: {workload.name}, {workload.num_rows:,} rows ...")
        dataset = workload_dataset(workload, prepared=prepared)
    else:
        from dlrm.data.preparation.prepare import prepare_dataset

        data = config.data
        report(f"Data: {data.name} ...")
        dataset = prepare_dataset(data)
    loop = dataclasses.replace(config.trainer, num_epochs=_EPOCHS, max_steps=None)
    config = dataclasses.replace(
        config, data=data, trainer=loop, output=str(output), run_name=None
    )
    return BenchCase(config, dataset, num_steps, code)
