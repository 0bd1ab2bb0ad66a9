"""The errors a user can cause. Commands print them and exit with code 2."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can mend: the requirement, what came, what to do."""

    rank: int | None = None
    """The process of a job that met it, once its processes have met."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, out of range or contradictory."""


class DataError(UserError):
    """A file, row or value that cannot be read as the config says it should."""


class BadIdError(DataError):
    """An id of a batch that its table does not have."""

    def __init__(self, message: str, feature: str = "", row: int = -1) -> None:
        """Keep the feature, and the row of the batch, for whoever knows the rows."""
        super().__init__(message)
        self.feature, self.row = feature, row


class DatasetError(UserError):
    """A prepared dataset that is missing, damaged or does not fit the config."""


class WorkerDiedError(UserError):
    """A process that shares the work of preparing ended before the work did."""


class RunError(UserError):
    """A run directory or checkpoint that is missing, damaged or does not fit."""


class DamagedError(RunError):
    """A checkpoint that is not as it was written; an older one may be."""


class WriteError(UserError, OSError):
    """A file that the system does not let be written: named, with what it needs."""

    def __init__(self, message: str, number: int | None = None) -> None:
        """Keep the system's error number beside the message."""
        super().__init__(message)
        self.errno = number


class TrainingError(UserError):
    """A training run that cannot go on, such as one whose loss is not finite."""


class InstallationError(UserError):
    """A package that is missing or does not fit its partners."""


class OtherRankError(UserError):
    """Another process of the job failed, and says why itself."""


class RankGoneError(Exception):
    """A process of the job died or hangs: no user's mistake, and worth another try."""

    rank: int | None = None
    """The process that noticed."""


class JobStoppedError(Exception):
    """All processes of a job end together, as they were asked to."""
