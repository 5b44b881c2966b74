"""From shapes and limits to a plan; integers in, integers out, no I/O."""

from lazyio.planning.plan import Plan
from lazyio.planning.solve import Facts, Wishes, solve

__all__ = ["Facts", "Plan", "Wishes", "solve"]
