"""From shapes and limits to a plan; integers in, integers out, no I/O."""

from lazyio.planning.access_search import suit_blocks
from lazyio.planning.plan import Plan
from lazyio.planning.request import Facts, Wishes
from lazyio.planning.solve import solve

__all__ = ["Facts", "Plan", "Wishes", "solve", "suit_blocks"]
