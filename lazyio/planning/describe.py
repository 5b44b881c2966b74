"""A plan as people read it: a table that answers five questions.

What is on disk, what is in memory, how many tasks, what is read twice, why.
"""

import html

from lazyio.planning.access import WindowCost
from lazyio.planning.described import Described
from lazyio.planning.drawing import as_svg
from lazyio.sizes import format_size


def as_text(plan: Described) -> str:
    """Return the table as plain text, one line for each answer."""
    rows = _rows(plan)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def as_html(plan: Described) -> str:
    """Return the table as HTML, and the drawing below it, for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in _rows(plan)
    )
    return f"<table>{cells}</table>{as_svg(plan)}"


def _rows(plan: Described) -> list[tuple[str, str]]:
    rows = [
        ("array", f"{plan.shape} {plan.dtype}, {format_size(plan.nbytes)}"),
        ("on disk", _on_disk(plan)),
        ("in memory", _in_memory(plan)),
        ("tasks", f"{plan.n_tasks} {plural('block', plan.n_tasks)}, {plan.workers} at a time"),
        ("read twice", _read_twice(plan)),
    ]
    rows += [("window", _window(cost)) for cost in plan.windows]
    if plan.reasons:
        rows.append(("why", "; ".join(plan.reasons)))
    rows += [("advice", f"{message} [{code}]") for code, message in plan.advice]
    return rows


def _on_disk(plan: Described) -> str:
    text = (
        f"{plan.n_chunks} {plural('chunk', plan.n_chunks)} of {plan.chunk_shape}, "
        f"{format_size(plan.chunk_nbytes)} each before encoding"
    )
    if plan.shard_shape is not None:
        text += f", in {plan.n_shards} {plural('shard', plan.n_shards)} of {plan.shard_shape}"
    if plan.format == "zarr":
        text += f"; {plan.n_files} {plural('file', plan.n_files)}"
    return text


def _in_memory(plan: Described) -> str:
    origin = ' (memory_limit="auto": half of what is free)' if plan.limit_is_auto else ""
    return (
        f"blocks of {plan.block_shape}, {format_size(plan.block_nbytes)} each; at most "
        f"{format_size(plan.peak_nbytes)} of {format_size(plan.memory_limit)} in all{origin}"
    )


def _read_twice(plan: Described) -> str:
    if plan.read_shape is not None:
        whose = "the array's own blocks" if plan.is_graph else "the source's blocks"
        return (
            f"nothing: {whose}, at most {plan.read_shape}, are taken once each; parts of chunks "
            "wait in memory, and past the limit in a scratch file beside the target"
        )
    if plan.read_amplification <= 1.0:
        return "nothing"
    cause = "blocks narrower than a row of the file"
    if plan.source_chunk_shape is not None:
        cause = f"blocks that cut across the source's chunks {plan.source_chunk_shape}"
    return f"{plan.read_amplification - 1:.0%} of the source, by {cause}"


def _window(cost: WindowCost) -> str:
    """Return what one window costs, on average over all places that it may lie at."""
    weight = f" (weight {cost.window.weight:g})" if cost.window.weight != 1 else ""
    return (
        f"{cost.window.shape}{weight} touches {_rounded(cost.n_chunks)} "
        f"{plural('chunk', 1 if cost.n_chunks == 1 else 2)}, reads "
        f"{format_size(round(cost.nbytes))} for {format_size(cost.wanted_nbytes)}, "
        f"{_rounded(cost.amplification)}x"
    )


def _rounded(number: float) -> str:
    """Return three digits of a small number, all of a large one, without an exponent."""
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def plural(noun: str, count: int) -> str:
    """Return a noun in the number that goes with a count.

    Examples
    --------
    >>> plural("block", 1), plural("block", 2)
    ('block', 'blocks')
    """
    return noun if count == 1 else f"{noun}s"
