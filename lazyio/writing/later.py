"""An order that is carried out now, or by whoever computes it."""

import uuid
from typing import Any, Protocol

from dask.delayed import delayed

from lazyio.errors import TargetError
from lazyio.run.report import WriteReport
from lazyio.targets.disk import system_errors


class Order(Protocol):
    """A write of which everything is decided."""

    def write(self) -> WriteReport:
        """Carry it out, whole or not at all."""


def now_or_later(order: Order, *, compute: bool) -> Any:
    """Return the report of an order, or a ``Delayed`` that gives it.

    Parameters
    ----------
    order : Order
        Checked; nothing of it is on disk or locked.
    compute : bool
        Whether to carry it out now.
    """
    if compute:
        return order.write()
    # As it is, not taken apart: dask would compute the arrays in it as its arguments.
    write = system_errors(TargetError)(order.write)
    later = delayed(write, name=f"lazyio-order-{uuid.uuid4().hex}", traverse=False)
    return later(dask_key_name=f"lazyio-write-{uuid.uuid4().hex}")
