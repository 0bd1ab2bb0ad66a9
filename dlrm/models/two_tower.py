"""Two towers: a query and a document become vectors, their dot product a score.

Huang et al. 2013, "Learning Deep Structured Semantic Models for Web Search using
Clickthrough Data"; normalisation and temperature as in Yi et al. 2019,
"Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations".

Shape suffixes: B = batch, I = width of one tower's inputs, D = width of the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from dlrm.config.checks import check_rate, check_widths, require
from dlrm.config.errors import ConfigError
from dlrm.config.model import register_model
from dlrm.config.schema import FeatureSchema
from dlrm.config.towers import TowersConfig
from dlrm.data.batch import Batch
from dlrm.data.document_keys import dense_columns
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.layers.mlp import MLP


@dataclass(kw_only=True, slots=True)
class TwoTowerConfig(TowersConfig):
    """Both towers have one shape."""

    tower_mlp: list[int] = field(default_factory=lambda: [128, 64])
    """Widths of each tower's layers, ReLU between them; the last is the vector's. With
    none, a tower is its inputs side by side."""
    dropout: float = 0.0
    """After each hidden layer of the towers."""
    normalize: bool = True
    """Scale both vectors to length 1, so that a score is a cosine over the
    temperature."""
    temperature: float = 0.1
    """What scores are divided by."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        TowersConfig.__post_init__(self)
        check_widths("model.tower_mlp", self.tower_mlp)
        check_rate("model.dropout", self.dropout)
        sound = self.temperature > 0
        require(sound, "model.temperature", "above 0", self.temperature)


@register_model("two_tower", TwoTowerConfig)
class TwoTower(nn.Module):
    """Tables may serve both towers: a bag of films seen, and the film in question."""

    def __init__(self, config: TwoTowerConfig, schema: FeatureSchema) -> None:
        super().__init__()
        config.check_features(
            [f.name for f in schema.sparse] + [f.name for f in schema.dense]
        )
        self.embeddings = FeatureEmbeddings(schema)
        self.query = Tower(config, schema, config.query_features)
        self.document = Tower(config, schema, config.document_features)
        widths = self.query.output_dim, self.document.output_dim
        if widths[0] != widths[1]:
            raise ConfigError(
                f"With model.tower_mlp=[] both towers' inputs must be equally wide, "
                f"but the query's are {widths[0]} wide and the document's {widths[1]}. "
                f"Set model.tower_mlp=[64], or features' embedding_dim."
            )
        self.normalize, self.temperature = config.normalize, config.temperature

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return both vectors of each row, [B, 2, D].

        The query's is divided by the temperature, so that scores are dot products.
        """
        vectors = self.embeddings(batch.sparse)
        query_BD = self.query(vectors, batch.dense)
        document_BD = self.document(vectors, batch.dense)
        if self.normalize:
            query_BD = nn.functional.normalize(query_BD, dim=1)
            document_BD = nn.functional.normalize(document_BD, dim=1)
        return torch.stack([query_BD / self.temperature, document_BD], dim=1)


class Tower(nn.Module):
    """One side's embeddings and dense columns, side by side, through an MLP."""

    columns: torch.Tensor

    def __init__(
        self, config: TwoTowerConfig, schema: FeatureSchema, features: list[str]
    ) -> None:
        super().__init__()
        places = [i for i, f in enumerate(schema.sparse) if f.name in features]
        self.places, columns = places, list(dense_columns(schema, features))
        self.has_dense = len(columns) > 0
        self.register_buffer("columns", torch.tensor(columns).long(), persistent=False)
        widths = [schema.sparse[place].feature.embedding_dim or 0 for place in places]
        self.output_dim = sum(widths) + len(columns)
        self.mlp: MLP | None = None
        if config.tower_mlp:
            *hidden, last = config.tower_mlp
            self.mlp = MLP(
                self.output_dim, hidden, output_dim=last, dropout=config.dropout
            )
            self.output_dim = last

    def forward(self, vectors: list[torch.Tensor], dense: torch.Tensor) -> torch.Tensor:
        """Return the vectors, [B, D], from those of all features and all columns."""
        parts = [vectors[place] for place in self.places]
        if self.has_dense:
            parts.append(dense.index_select(1, self.columns))
        x_BI = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return x_BI if self.mlp is None else self.mlp(x_BI)
