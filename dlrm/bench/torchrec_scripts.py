"""torchrec's own preprocessing of Criteo's files, its functions called as they are.

``python -m dlrm.bench.torchrec_scripts FILE FOLDER`` turns text into arrays and ids
into contiguous numbers, those seen once into 1: a look into a Python dictionary for
each cell. It prints its seconds, without those of importing torch and torchrec.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

THRESHOLD = 2
"""Uses that an id needs to have a number of its own."""


def main(source: str, folder: str) -> None:
    """Preprocess a file and print the seconds that took."""
    from torchrec.datasets.criteo import BinaryCriteoUtils

    out = Path(folder)
    names = {
        part: str(out / f"day_{part}.npy") for part in ("dense", "sparse", "labels")
    }
    started = time.perf_counter()
    BinaryCriteoUtils.tsv_to_npys(
        source,
        out_dense_file=names["dense"],
        out_sparse_file=names["sparse"],
        out_labels_file=names["labels"],
        dataset_name="criteo_kaggle",
    )
    BinaryCriteoUtils.sparse_to_contiguous(
        [names["sparse"]], str(out), frequency_threshold=THRESHOLD
    )
    print(f"seconds {time.perf_counter() - started}")


if __name__ == "__main__":
    main(*sys.argv[1:])
