"""``python -m dlrm``, for torchrun and for sweeps."""

from __future__ import annotations

from dlrm.commands.main import run

if __name__ == "__main__":
    run()
