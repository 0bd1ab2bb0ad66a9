"""Batches for training steps, the next ones already on their way.

While one batch is trained, the one after it is copied to the device and its ids are
sent to the processes that keep their rows; the one after that is being fetched. What
each step computes is the same as without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.distributed.train_pipeline.runtime_forwards import PipelinedForward
from torchrec.distributed.train_pipeline.tracing import Tracer, _get_leaf_module_names
from torchrec.distributed.types import ShardedModule

from dlrm.data.batch import Batch

ErrorsOf: TypeAlias = Callable[[Batch], AbstractContextManager[None]]


class BatchPipeline:
    """Hands out batches one by one; a step trains the model on the last one it got.

    On a CPU, where sending ahead gains nothing, batches are handed on as they come.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        *,
        ahead: bool | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare for training ``model`` on ``device``.

        Args:
            model: Takes a ``Batch``; its sharded collections are called once a step.
                Between two steps it may be called in evaluation mode.
            device: Of the model.
            ahead: Whether to send batches ahead; only for a GPU where None.
            report: Takes a line for the user where the model does not allow it.
        """
        self._ahead: _Ahead | None = None
        if device.type == "cuda" if ahead is None else ahead:
            self._ahead = _Ahead(model, device, report or _unheard)
            model.register_forward_hook(self._after_forward)

    @property
    def num_pipelined(self) -> int:
        """Sharded collections whose ids are sent ahead, once a batch was."""
        return 0 if self._ahead is None else len(self._ahead._pipelined_modules)

    def batches(
        self, batches: Iterable[Batch], *, errors_of: ErrorsOf | None = None
    ) -> Iterator[Batch]:
        """Yield ``batches``, on the model's device where they are sent ahead.

        Args:
            batches: As many on every process.
            errors_of: Entered with a batch while its ids are sent: their errors come
                while an earlier batch is the last one handed out.

        Raises:
            DataError: An id is out of its table's range.
        """
        if self._ahead is None:
            return iter(batches)
        return self._ahead.batches_of(iter(batches), errors_of or _unnamed)

    def _after_forward(self, *_: Any) -> None:
        """Send the next batch's ids while the backward pass runs."""
        assert self._ahead is not None
        self._ahead.send_ids()


class _Ahead(TrainPipelineSparseDist[Batch, Any]):
    """torchrec's pipeline around steps that others take."""

    def __init__(
        self, model: nn.Module, device: torch.device, report: Callable[[str], None]
    ) -> None:
        self._dists: list[tuple[Any, Any, Any]] = []
        # No step is taken in here: nothing of the optimizer is used.
        super().__init__(
            model,
            None,
            device,
            dmp_collection_sync_interval_batches=None,
        )
        sharded = any(isinstance(m, ShardedModule) for m in model.modules())
        self._sends_ids = sharded and _can_be_traced(model, report)
        self._has_sent = True

    def batches_of(
        self, batches: Iterator[Batch], errors_of: ErrorsOf
    ) -> Iterator[Batch]:
        try:
            self._fill(batches, errors_of)
            while self.batches:
                self._set_module_context(self.contexts[0])
                self._wait_for_batch()
                if len(self.batches) > 1:
                    self._start(1, errors_of)
                    self._has_sent = False
                self.enqueue_batch(batches)
                batch = self.batches[0]
                assert batch is not None
                yield batch
                # A step may have ended before its forward pass.
                self.send_ids()
                self.dequeue_batch()
        finally:
            self.reset()

    def send_ids(self) -> None:
        """Send the next batch's ids, now that their numbers are known everywhere."""
        if not self._has_sent:
            self._has_sent = True
            self.wait_sparse_data_dist(self.contexts[1])

    def start_sparse_data_dist(self, batch: Batch | None, context: Any) -> None:
        """Start to send ids, all collections' numbers in one exchange."""
        with self._fused():
            super().start_sparse_data_dist(batch, context)

    def _fill(self, batches: Iterator[Batch], errors_of: ErrorsOf) -> None:
        if not self.enqueue_batch(batches):
            return
        if self._sends_ids and not self._pipelined_modules:
            with errors_of(self.batches[0]):
                self._pipeline_model(
                    self.batches[0], self.contexts[0], _TrainingForward
                )
            self._unfuse()
        else:
            self._start(0, errors_of)
        self.wait_sparse_data_dist(self.contexts[0])
        self.enqueue_batch(batches)

    def _start(self, place: int, errors_of: ErrorsOf) -> None:
        batch = self.batches[place]
        assert batch is not None
        with errors_of(batch):
            self.start_sparse_data_dist(batch, self.contexts[place])

    def _unfuse(self) -> None:
        """Let collections send ids by themselves again, as evaluation has them do."""
        dists = [
            step._dist
            for module in self._pipelined_modules
            for child in module.modules()
            for step in getattr(child, "_input_dists", ())
            if hasattr(step, "_dist")
        ]
        plain = self._original_kjt_dist_forwards
        self._dists = [
            (dist, own, dist.forward) for dist, own in zip(dists, plain, strict=True)
        ]
        for dist, own, _ in self._dists:
            dist.forward = own

    @contextmanager
    def _fused(self) -> Iterator[None]:
        for dist, _, fused in self._dists:
            dist.forward = fused
        try:
            yield
        finally:
            for dist, own, _ in self._dists:
                dist.forward = own


class _TrainingForward(PipelinedForward):
    """Takes the ids that were sent ahead; in evaluation mode, those of its input."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = self._module
        if module.training:
            return super().__call__(*args, **kwargs)
        return type(module).forward(module, *args, **kwargs)


def _can_be_traced(model: nn.Module, report: Callable[[str], None]) -> bool:
    """Say whether torch.fx sees which part of a batch each collection is called with.

    Models whose forward pass decides by a tensor's values, for example, it cannot see
    through.
    """
    try:
        Tracer(leaf_modules=_get_leaf_module_names(model)).trace(model)
    # A model may stumble in any way over what stands for tensors in tracing.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        report(f"Ids are not sent ahead, as torch.fx cannot trace the model: {reason}")
        return False
    return True


def _unheard(_: str) -> None:
    """Drop a line."""


def _unnamed(_: Batch) -> AbstractContextManager[None]:
    return nullcontext()
