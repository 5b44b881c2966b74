"""The plans of several arrays that are written together, and the table of them."""

import html
from collections.abc import Iterator, Mapping

from lazyio.planning.display import plural
from lazyio.planning.plan import Plan
from lazyio.units import format_size


class Plans(Mapping[str, Plan]):
    """The plans of several arrays, by their keys; ``print`` shows a table.

    Made by :func:`lazyio.plan` of a mapping or a Dataset.

    Parameters
    ----------
    plans : mapping
        A plan for each key.
    columns : mapping, optional
        What else the table says: by the title of a column, a text for each key.

    Examples
    --------
    >>> import lazyio
    >>> print(lazyio.plan({"raw": (30000, 64), "mean": (64,)}, "int16", workers=2))
    array  shape        dtype  chunks      blocks      size
    raw    (30000, 64)  int16  (7500, 64)  (7500, 64)  3.66 MiB
    mean   (64,)        int16  (64,)       (64,)       128 B
    2 arrays, 3.66 MiB; at most 12.4 MiB of 1 GiB in memory
    """

    def __init__(
        self, plans: Mapping[str, Plan], columns: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._plans = dict(plans)
        self._columns = dict(columns or {})

    def __getitem__(self, key: str) -> Plan:
        """Return the plan of an array."""
        return self._plans[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of arrays."""
        return iter(self._plans)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._plans)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays before encoding."""
        return sum(plan.nbytes for plan in self._plans.values())

    @property
    def peak_nbytes(self) -> int:
        """Bytes that the run takes at most."""
        return max((plan.peak_nbytes for plan in self._plans.values()), default=0)

    def to_dict(self) -> dict[str, object]:
        """Return all plans as plain values, for JSON."""
        return {key: plan.to_dict() for key, plan in self._plans.items()}

    def __str__(self) -> str:
        """Return a table with a line for each array, then what holds for all, then advice."""
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self._total(), *self._advice()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title, *rows = self._rows()
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in title)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        said = "".join(f"<p>{html.escape(line)}</p>" for line in (self._total(), *self._advice()))
        each = "".join(
            f"<details><summary>{html.escape(key)}</summary>{plan._repr_html_()}</details>"
            for key, plan in self._plans.items()
        )
        return f"<table><tr>{head}</tr>{body}</table>{said}{each}"

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the cells of the table, the titles first."""
        has_shards = any(plan.shard_shape is not None for plan in self._plans.values())
        shards = ("shards",) if has_shards else ()
        rows = [
            ("array", *self._columns, "shape", "dtype", "chunks", *shards, "blocks", "size"),
        ]
        for key, plan in self._plans.items():
            others = (column.get(key, "") for column in self._columns.values())
            shard = (str(plan.shard_shape or "-"),) if has_shards else ()
            shape, chunk, block = map(str, (plan.shape, plan.chunk_shape, plan.block_shape))
            size = format_size(plan.nbytes)
            rows.append((key, *others, shape, str(plan.dtype), chunk, *shard, block, size))
        return rows

    def _total(self) -> str:
        limit = min((plan.memory_limit for plan in self._plans.values()), default=0)
        return (
            f"{len(self)} {plural('array', len(self))}, {format_size(self.nbytes)}; at most "
            f"{format_size(self.peak_nbytes)} of {format_size(limit)} in memory"
        )

    def _advice(self) -> list[str]:
        return [
            f"advice: {key}: {message} [{code}]"
            for key, plan in self._plans.items()
            for code, message in plan.advice
        ]
