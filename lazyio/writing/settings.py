"""Arguments that say how an array is to be stored, as they were given; what both formats have."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from lazyio.dtypes import Stored
from lazyio.inputs import Input
from lazyio.options import AUTO, NONE, Default, as_fill_value, check_attributes, plan_request
from lazyio.planning import PlanRequest
from lazyio.writing.compatibility import ArrayFacts

_OF_THE_PLAN = (
    "chunks",
    "chunk_nbytes",
    "access",
    "shards",
    "memory_limit",
    "workers",
    "scheduler",
    "block_shape",
    "strategy",
)
"""Settings by which an array is cut."""


@dataclass(frozen=True, kw_only=True)
class ArraySettings:
    """Arguments of ``to_hdf5`` or ``to_zarr`` that speak of an array."""

    format: ClassVar[str]
    arguments: ClassVar[Mapping[str, str]] = {}
    """Names that the format's users have for some of them."""

    chunks: Any = AUTO
    chunk_nbytes: Any = None
    access: Any = None
    shards: Any = None
    dtype: Any = None
    fillvalue: Any = NONE
    attrs: Any = NONE
    dims: Any = NONE
    memory_limit: Any = None
    workers: Any = None
    scheduler: Any = None
    block_shape: Any = None
    strategy: str = "auto"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the settings among the arguments of a function."""
        named = {one.name: cls.argument(one.name) for one in fields(cls)}
        return cls(**{name: given[called] for name, called in named.items() if called in given})

    @classmethod
    def argument(cls, name: str) -> str:
        """Return what users call an argument."""
        return cls.arguments.get(name, name)

    def check(self) -> None:
        """Refuse what no array can have."""
        check_attributes(self.argument("attrs"), self.attrs)

    def completed(self, given: Input) -> Self:
        """Return the settings with what an array asks for itself, where nothing was given."""
        wanted = self.wanted_of(given)
        taken = {
            item.name: wanted.get(item.name, one.value)
            for item in fields(self)
            if isinstance(one := getattr(self, item.name), Default)
        }
        return replace(self, **taken)

    def wanted_of(self, given: Input) -> dict[str, Any]:
        """Return what an array asks for itself, as far as what was given leaves room for it."""
        wanted = given.wanted("dims")
        if self.chunk_nbytes is not None or self.access is not None or wanted.get("chunks") is True:
            wanted.pop("chunks", None)
        return wanted

    def request(self, **others: Any) -> PlanRequest:
        """Return how the array is to be cut."""
        shared = {name: getattr(self, name) for name in _OF_THE_PLAN}
        return plan_request(format=self.format, **(shared | others))

    def asked(self, form: Stored, **others: Any) -> ArrayFacts:
        """Return what an existing array may contradict."""
        fill_value = self.fillvalue
        if fill_value is not None:
            element = as_fill_value(self.argument("fillvalue"), fill_value, form.original)
            fill_value = form.encode_one(element)
        return ArrayFacts(dtype=self.dtype, fill_value=fill_value, **others)
