"""From shapes and limits to a plan; integers in, integers out, no I/O."""

from lazyio.planning.access_search import search_blocks
from lazyio.planning.plan import Plan
from lazyio.planning.plans import Plans
from lazyio.planning.request import ArraySpec, OnePass, PlanRequest
from lazyio.planning.solve import solve

__all__ = ["ArraySpec", "OnePass", "Plan", "PlanRequest", "Plans", "search_blocks", "solve"]
