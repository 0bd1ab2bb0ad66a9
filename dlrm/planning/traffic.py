"""What one step sends between processes: ids, vectors, and their gradients back.

Every amount is an average in bytes. b is a process's share of the batch, W the number
of processes, n those of a node, F a table's features, L its ids an example, w a part's
columns, r the share of the table's rows that a part has, i the bytes of an id and e
those of a number of a vector on its way. Ids are taken to be spread evenly over the
rows of their table.

For each part of a table, each of the W processes (under ``table_row_wise`` and
``grid`` too) sends to the part's owner

    ids      r b L i, and as much more as weights take, and the lengths 4 b F

and gets back

    vectors  b F w e where bags are pooled, r b L w e where they are not.

Parts of one range of columns that share its rows send partial sums, which are added
up on the way: a process receives one sum a range. Under ``table_row_wise`` and ``grid``
the owner's node adds them up first and each owner then sends its n-th of the sums.
Gradients take the way of the vectors back. A table that every process has a replica of
sends ids and gradients of all processes to all of them, in backward.

Bytes on links are counted where a part lies, which is where most of them meet: ids and
gradients that come there, vectors that leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dlrm.config.sharding import CommunicationConfig, Precision, Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.planning.table_loads import TableLoad

LENGTH_BYTES = 4
"""Of the number of ids in a bag."""
WEIGHT_BYTES = 4
"""Of an id's weight."""
_WIRE_BYTES = {
    Precision.fp32: 4,
    Precision.fp16: 2,
    Precision.bf16: 2,
    Precision.int8: 1,
}
_SUMS_IN_NODE = (Strategy.table_row_wise, Strategy.grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobShape:
    """What a plan is judged for, beside the plan."""

    local_batch_size: int
    """Examples of one process and step."""
    on_gpu: bool
    communication: CommunicationConfig = field(default_factory=CommunicationConfig)
    id_bytes: int = 4
    replicas: int = 1
    """Groups of processes with all tables each; a plan is that of one group."""

    @property
    def forward_bytes(self) -> int:
        """Of a number of a vector on its way."""
        return _WIRE_BYTES[self.communication.forward]

    @property
    def backward_bytes(self) -> int:
        """Of a number of a gradient on its way."""
        return _WIRE_BYTES[self.communication.backward]


@dataclass(slots=True)
class Flow:
    """Bytes that a process sends and receives in one exchange of one step."""

    sent: float = 0.0
    received: float = 0.0
    summed: float = 0.0
    """Sums of a node on their way to other nodes."""
    within_node: float = 0.0
    """Over links of the node, for the parts that lie here."""
    between_nodes: float = 0.0
    """Over links to other nodes, for the parts that lie here."""

    def add(self, other: Flow) -> None:
        """Add another table's."""
        self.sent += other.sent
        self.received += other.received
        self.summed += other.summed
        self.within_node += other.within_node
        self.between_nodes += other.between_nodes

    @property
    def buffers(self) -> float:
        """Bytes of the tensors that the exchange reads and writes."""
        return self.sent + self.received + self.summed


@dataclass(slots=True)
class RankTraffic:
    """One process's exchanges of one step."""

    ids: Flow = field(default_factory=Flow)
    vectors: Flow = field(default_factory=Flow)
    gradients: Flow = field(default_factory=Flow)

    def add(self, other: RankTraffic) -> None:
        """Add another table's."""
        self.ids.add(other.ids)
        self.vectors.add(other.vectors)
        self.gradients.add(other.gradients)

    @property
    def buffers(self) -> int:
        """Bytes of the tensors that the exchanges read and write."""
        flows = (self.ids, self.vectors, self.gradients)
        return round(sum(flow.buffers for flow in flows))


def plan_traffic(
    plan: Plan, loads: dict[str, TableLoad], shape: JobShape
) -> list[RankTraffic]:
    """Return every process's exchanges of one step, all tables together."""
    found = [RankTraffic() for _ in range(plan.world_size)]
    for name, table in plan.tables.items():
        of_table = table_traffic(table, loads[name], plan, shape)
        for total, traffic in zip(found, of_table, strict=True):
            total.add(traffic)
    return found


def table_traffic(
    table: TablePlan, load: TableLoad, plan: Plan, shape: JobShape
) -> list[RankTraffic]:
    """Return every process's exchanges of one step for one table."""
    found = [RankTraffic() for _ in range(plan.world_size)]
    if plan.world_size == 1:
        return found
    if table.strategy is Strategy.data_parallel:
        for traffic in found:
            traffic.gradients = _replica_flow(load, plan, shape)
        return found
    for part in table.parts:
        if not part.num_rows:
            continue
        _add_ids(found, part, load, plan, shape)
    for parts in _by_columns(table):
        _add_vectors(found, parts, table.strategy, load, plan, shape)
    return found


def _add_ids(
    found: list[RankTraffic], part: Part, load: TableLoad, plan: Plan, shape: JobShape
) -> None:
    """Send ids from everyone to the part's owner."""
    size = _id_bytes(load, part.num_rows / load.num_rows, shape)
    for traffic in found:
        traffic.ids.sent += size
    flow = _links(size, plan)
    flow.received = plan.world_size * size
    found[part.rank].ids.add(flow)


def _add_vectors(
    found: list[RankTraffic],
    parts: list[Part],
    strategy: Strategy,
    load: TableLoad,
    plan: Plan,
    shape: JobShape,
) -> None:
    """Send vectors of one range of columns to everyone, and their gradients back."""
    width = parts[0].num_columns
    numbers = shape.local_batch_size * load.vectors_per_example * width
    in_node = strategy in _SUMS_IN_NODE and load.is_pooled
    for part in parts:
        share = 1.0 if load.is_pooled else part.num_rows / load.num_rows
        forward = numbers * share * shape.forward_bytes
        backward = numbers * share * shape.backward_bytes
        owner = found[part.rank]
        if in_node:
            owner.vectors.add(_sums_of_node(forward, plan))
            owner.gradients.add(_sums_of_node(backward, plan, copies=2))
        else:
            owner.vectors.add(_links(forward, plan))
            owner.gradients.add(_links(backward, plan))
        owner.vectors.sent += plan.world_size * forward
        owner.gradients.received += plan.world_size * backward
    for traffic in found:
        # Of sums one comes; of single rows each owner sends its share.
        traffic.vectors.received += numbers * shape.forward_bytes
        traffic.gradients.sent += numbers * shape.backward_bytes


def _replica_flow(load: TableLoad, plan: Plan, shape: JobShape) -> Flow:
    """Return what gathering all processes' ids and gradients takes."""
    bags = load.num_features if load.is_pooled else load.ids_per_example
    size = _id_bytes(load, 1.0, shape)
    size += shape.local_batch_size * bags * load.width * 4
    # Tables that every process has are trained on the examples of all groups.
    world, near = plan.world_size * shape.replicas, plan.ranks_per_node
    return Flow(
        sent=size,
        received=world * size,
        within_node=(near - 1) * size,
        between_nodes=(world - near) * size,
    )


def _links(size: float, plan: Plan) -> Flow:
    """Return what crosses links where one process and each other one share ``size``."""
    world, near = plan.world_size, plan.ranks_per_node
    return Flow(within_node=(near - 1) * size, between_nodes=(world - near) * size)


def _sums_of_node(size: float, plan: Plan, *, copies: int = 1) -> Flow:
    """Return what adding up within a node, then sending to others, takes.

    ``copies`` is of the node's sums: gradients are copied before they are spread.
    """
    near, num_nodes = plan.ranks_per_node, plan.world_size // plan.ranks_per_node
    return Flow(
        summed=copies * num_nodes * size,
        within_node=(near - 1) * num_nodes * size,
        between_nodes=(num_nodes - 1) * size,
    )


def _id_bytes(load: TableLoad, share: float, shape: JobShape) -> float:
    """Return the bytes of one process's ids of a share of the rows, with lengths."""
    per_id = shape.id_bytes + WEIGHT_BYTES * load.is_weighted
    lengths = LENGTH_BYTES * load.num_features
    return shape.local_batch_size * (share * load.ids_per_example * per_id + lengths)


def _by_columns(table: TablePlan) -> Iterator[list[Part]]:
    """Yield the parts with rows of each range of columns."""
    starts = dict.fromkeys(part.first_column for part in table.parts)
    for start in starts:
        parts = [p for p in table.parts if p.first_column == start and p.num_rows]
        if parts:
            yield parts
