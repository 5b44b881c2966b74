"""An order that is carried out now, or by whoever computes it."""

import functools
import uuid
from typing import Any, Protocol

from dask.delayed import delayed

from lazyio.errors import TargetError
from lazyio.os_errors import system_errors
from lazyio.run.report import WriteReport


class Order(Protocol):
    """A write of which everything is decided."""

    def write(self) -> WriteReport:
        """Carry it out, whole or not at all."""


def now_or_later(order: Order, *, compute: bool) -> Any:
    """Return the report of an order, or a ``Delayed`` that gives it."""
    if compute:
        return order.write()
    # As it is, not taken apart: dask would compute the arrays in it as its arguments.
    write = functools.partial(_carry_out, order)
    later = delayed(write, name=f"lazyio-order-{uuid.uuid4().hex}", traverse=False)
    return later(dask_key_name=f"lazyio-write-{uuid.uuid4().hex}")


@system_errors(TargetError)
def _carry_out(order: Order) -> WriteReport:
    return order.write()
