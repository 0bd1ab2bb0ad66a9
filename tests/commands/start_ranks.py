"""Run ``launch.run`` as a command line would: python start_ranks.py N RESTARTS ARGV.

The ranks run ``python -m dlrm``, which is what the current directory has of that name.
"""

from __future__ import annotations

import sys

from dlrm.commands import launch
from dlrm.config.launcher import LauncherConfig
from dlrm.config.trainer import TrainerConfig

if __name__ == "__main__":
    number, restarts, *argv = sys.argv[1:]
    launcher = LauncherConfig(processes=int(number), max_restarts=int(restarts))
    sys.exit(launch.run(argv, launcher=launcher, trainer=TrainerConfig(num_epochs=1)))
