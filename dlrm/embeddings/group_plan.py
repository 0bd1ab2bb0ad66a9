"""What the bags of one group of features go through on their way to vectors."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.embeddings.compression import IdRows, id_rows
from dlrm.embeddings.tables import is_sequence, padding_ids, pools_in_kernel


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPlan:
    """Where a group's bags come from, and what is done before and after the lookup."""

    sources: tuple[str, ...]
    """The batch's groups that hold its features."""
    poolings: dict[str, Pooling]
    """By feature, in the group's order."""
    scaled: frozenset[str]
    """Features whose vectors are the lookup's sums times a factor a bag."""
    padding: dict[str, int]
    compressed: dict[str, IdRows]
    pools_in_kernel: bool
    """Whether all vectors leave the lookup as they are."""

    @classmethod
    def of(
        cls,
        schema: FeatureSchema,
        group: str,
        batch_groups: dict[str, tuple[FittedSparse, ...]],
    ) -> GroupPlan:
        """Return the plan of one of the schema's groups."""
        features, padding = schema.groups[group], padding_ids(schema)
        names = {feature.name for feature in features}
        scaled = {f.name for f in features if not pools_in_kernel(schema, f)}
        rows = {
            f.name: id_rows(
                schema.options(f.table).compression, num_ids=f.num_embeddings
            )
            for f in features
        }
        return cls(
            sources=tuple(
                source
                for source, members in batch_groups.items()
                if names & {member.name for member in members}
            ),
            poolings={feature.name: feature.pooling for feature in features},
            scaled=frozenset(scaled),
            padding={f.name: padding[f.name] for f in features if f.name in padding},
            compressed={name: how for name, how in rows.items() if how is not None},
            pools_in_kernel=not is_sequence(group) and not scaled,
        )
