"""The ``trainer`` section: how long, how often, and what for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dlrm.config.checks import require


class Device(Enum):
    """Where the model lives."""

    auto = "auto"
    """``cuda`` where there is one, else ``cpu``."""
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Of the matrix products in a training step; weights and sums are float32."""

    fp32 = "fp32"
    tf32 = "tf32"
    """On a GPU, factors of 10 bits' mantissa; on a CPU as ``fp32``."""
    bf16 = "bf16"
    """Factors of 7 bits' mantissa: autocast on a GPU; on a CPU where its instructions
    have such products, else as ``fp32``."""


class Monitor(Enum):
    """The validation metric that the best checkpoint and early stopping go by."""

    auc = "auc"
    log_loss = "log_loss"
    normalized_entropy = "normalized_entropy"
    pr_auc = "pr_auc"
    precision_at_1 = "precision_at_1"
    recall_at_1 = "recall_at_1"
    recall_at_10 = "recall_at_10"
    mrr = "mrr"
    accuracy = "accuracy"

    @property
    def higher_is_better(self) -> bool:
        """Say whether a larger value is a better model."""
        return self not in (Monitor.log_loss, Monitor.normalized_entropy)


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """The step loop."""

    global_batch_size: int = 2048
    """Examples a step over all ranks; each rank takes its slice."""
    num_epochs: int = 1
    max_steps: int | None = None
    """Stop after this many steps, whatever ``num_epochs`` says."""
    seed: int = 0
    """Of initial values, row order and dropout."""
    device: Device = Device.auto
    num_threads: int | None = None
    """CPU threads of one process; torch's own choice where not set."""
    precision: Precision = Precision.fp32
    """Of the dense layers' products in training; evaluation has float32."""
    compile: bool = False
    """Compile what lies between lookups and logits by ``torch.compile``; one process.
    On a CPU that is slower than the layers' own kernels."""
    cuda_graphs: bool = False
    """With ``compile`` on a GPU: what has the same shapes in every step is recorded and
    replayed as CUDA graphs."""
    positive_weight: float = 1.0
    """Class weight: the loss of a click counts this many times."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    evaluate_every: int | None = None
    """Steps between evaluations on the validation split; each epoch's end where not
    set."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; at each evaluation where not set."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept beside the best one."""
    async_checkpoints: bool = True
    """Write checkpoints beside training, from a copy of all that they hold; between
    steps where memory has no room for it, or with several processes."""
    check_memory: bool = True
    """Refuse tables that would not fit the memory that is free, before they are made.
    """
    monitor: Monitor | None = None
    """``auc`` for clicks, ``precision_at_1`` for classes and ``recall_at_10`` for
    ``retrieval`` where not set."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row without a better ``monitor``."""
    average_decay: float | None = None
    """Decay a step of a moving average of all weights, which evaluation and prediction
    then use; none where not set. Every step reads all weights for it."""
    accumulation_steps: int = 1
    """Refused above 1: fused tables update rows in every backward."""
    shuffle_rows_in_memory: int = 200_000_000
    """Training splits up to this many rows are shuffled exactly, larger ones in
    blocks."""
    prefetch_batches: int = 4
    """Batches made ahead of the step by a background thread; 0 makes them in the
    step."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in (
            "global_batch_size", "num_epochs", "log_every", "keep_checkpoints",
            "max_steps", "num_threads", "evaluate_every", "checkpoint_every",
            "early_stopping_patience",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value is None or value >= 1, f"trainer.{name}", ">= 1", value)
        require(0 <= self.seed < 2**63, "trainer.seed", "in [0, 2^63)", self.seed)
        decay = self.average_decay
        sound = decay is None or 0 < decay < 1
        require(sound, "trainer.average_decay", "in (0, 1)", decay)
        weight = self.positive_weight
        require(weight > 0, "trainer.positive_weight", "above 0", weight)
        require(
            self.compile or not self.cuda_graphs,
            "trainer.cuda_graphs",
            "false without trainer.compile=true",
            self.cuda_graphs,
        )
        prefetch = self.prefetch_batches
        require(prefetch >= 0, "trainer.prefetch_batches", ">= 0", prefetch)
        require(
            self.accumulation_steps == 1,
            "trainer.accumulation_steps",
            "1, because fused tables update rows in every backward",
            self.accumulation_steps,
            "Raise trainer.global_batch_size instead.",
        )
