"""The facts of a plan that its table and its drawing show."""

from collections.abc import Sequence
from typing import Any, Protocol

from lazyio.planning.access import WindowCost
from lazyio.spec import Shape


class Described(Protocol):
    """The facts of a plan that its table and its drawing show."""

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def chunk_shape(self) -> Shape: ...  # noqa: D102
    @property
    def shard_shape(self) -> Shape | None: ...  # noqa: D102
    @property
    def block_shape(self) -> Shape: ...  # noqa: D102
    @property
    def source_chunk_shape(self) -> Shape | None: ...  # noqa: D102
    @property
    def read_shape(self) -> Shape | None: ...  # noqa: D102
    @property
    def nbytes(self) -> int: ...  # noqa: D102
    @property
    def chunk_nbytes(self) -> int: ...  # noqa: D102
    @property
    def block_nbytes(self) -> int: ...  # noqa: D102
    @property
    def peak_nbytes(self) -> int: ...  # noqa: D102
    @property
    def memory_limit(self) -> int: ...  # noqa: D102
    @property
    def n_chunks(self) -> int: ...  # noqa: D102
    @property
    def n_shards(self) -> int: ...  # noqa: D102
    @property
    def n_tasks(self) -> int: ...  # noqa: D102
    @property
    def is_graph(self) -> bool: ...  # noqa: D102
    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def read_amplification(self) -> float: ...  # noqa: D102
    @property
    def reasons(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def windows(self) -> Sequence[WindowCost]: ...  # noqa: D102
    @property
    def format(self) -> str: ...  # noqa: D102
    @property
    def n_files(self) -> int: ...  # noqa: D102
    @property
    def limit_is_auto(self) -> bool: ...  # noqa: D102
    @property
    def advice(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102
