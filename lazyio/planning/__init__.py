"""From shapes and limits to a plan; integers in, integers out, no I/O."""

from lazyio.planning.facts import Facts, Wishes
from lazyio.planning.plan import Plan
from lazyio.planning.solve import solve
from lazyio.planning.suiting import suit_blocks

__all__ = ["Facts", "Plan", "Wishes", "solve", "suit_blocks"]
