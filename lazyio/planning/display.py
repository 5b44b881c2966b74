"""A plan as people see it: a table that answers five questions, and a drawing.

Up to three axes make one face, or one box seen from the front, top and right;
more axes make a row of them. Extents are drawn to scale within an axis, and
compressed between axes, as screens are not a million times as long as they
are wide. Where blocks are small beside the array, only a part of it is drawn.
Lines closer than a few pixels are left out, so the size of a drawing does not
depend on the number of chunks.

What is on disk, what is in memory, how many tasks, how often the source is read, why.
"""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lazyio.dtypes import Shape
from lazyio.planning.access import WindowCost
from lazyio.units import format_size

if TYPE_CHECKING:  # A plan prints itself by this module.
    from lazyio.planning.plan import Plan


_LONGEST, _SHORTEST, _THIN = 240.0, 56.0, 36.0
_COMPRESSION = 0.3
_SLANT = 0.4
"""Length of an axis drawn slanted, backwards, beside its length drawn flat."""
_CLOSEST_LINES = 6.0
_SMALLEST_BOX = 3.0
_BLOCKS_SHOWN = 6
_MOST_FACES = 4
_MOST_WINDOWS = 6
_MARGIN, _LINE_HEIGHT, _TEXT_WIDTH = 20.0, 18.0, 6.6
_WINDOW_COLORS = ("#009e73", "#d55e00", "#56b4e9")
_WINDOW_DASHES = ("6 3", "2 2", "8 2 2 2", "1 3")

Point = tuple[float, float, float]
"""Backwards, downwards and to the right: in elements, or in pixels."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Boxes of one shape, and how they are drawn."""

    text: str
    shape: Shape
    color: str
    width: float
    dash: str = "none"
    place: float = 0.0
    """Where the box lies, as a share of the places that it may have."""
    is_grid: bool = True

    @property
    def style(self) -> str:
        return (
            f'fill="none" stroke="{self.color}" stroke-width="{self.width:g}" '
            f'stroke-dasharray="{self.dash}"'
        )


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One direction of a face; one element of no axis where the array has fewer."""

    number: int | None
    shown: float
    """Elements that are drawn."""
    length: float
    """Pixels that they take."""

    def extent_in(self, shape: Shape) -> float:
        """Return the elements of a shape along the axis, at least a few pixels of them."""
        if self.number is None:
            return self.shown
        least = self.shown * _SMALLEST_BOX / self.length
        return min(self.shown, max(float(shape[self.number]), least))


@dataclass(frozen=True, kw_only=True)
class _Face:
    """Three axes: backwards, downwards and to the right."""

    axes: tuple[_Axis, _Axis, _Axis]
    left: float

    @property
    def width(self) -> float:
        back, _, right = (axis.length for axis in self.axes)
        return right + back * _SLANT

    @property
    def height(self) -> float:
        back, down, _ = (axis.length for axis in self.axes)
        return down + back * _SLANT

    def box(self, layer: _Layer) -> str:
        """Return the path of the front, the top and the right of one box."""
        extents = [axis.extent_in(layer.shape) for axis in self.axes]
        low = [
            (axis.shown - extent) * layer.place
            for axis, extent in zip(self.axes, extents, strict=True)
        ]
        high = [start + extent for start, extent in zip(low, extents, strict=True)]
        (z0, y0, x0), (z1, y1, x1) = low, high
        sides = [[(z0, y0, x0), (z0, y0, x1), (z0, y1, x1), (z0, y1, x0)]]
        if self.axes[0].length:
            sides.append([(z0, y0, x0), (z1, y0, x0), (z1, y0, x1), (z0, y0, x1)])
            sides.append([(z0, y0, x1), (z1, y0, x1), (z1, y1, x1), (z0, y1, x1)])
        return " ".join(self._path(corners) + "Z" for corners in sides)

    def grid(self, layer: _Layer) -> str:
        """Return the path of the lines between boxes, where they are not too close."""
        back, down, right = (axis.shown for axis in self.axes)
        paths = []
        for which, axis in enumerate(self.axes):
            if axis.number is None:
                continue
            step = layer.shape[axis.number]
            closest = _CLOSEST_LINES if which else _CLOSEST_LINES / _SLANT
            if step / axis.shown * axis.length < closest:
                continue
            for n in range(1, math.ceil(axis.shown / step)):
                at = n * step
                corners = (
                    [(at, 0.0, 0.0), (at, 0.0, right), (at, down, right)],
                    [(0.0, at, 0.0), (0.0, at, right), (back, at, right)],
                    [(0.0, down, at), (0.0, 0.0, at), (back, 0.0, at)],
                )
                paths.append(self._path(corners[which]))
        return " ".join(paths)

    def _path(self, corners: Sequence[Point]) -> str:
        back = self.axes[0].length * _SLANT
        points = []
        for corner in corners:
            z, y, x = (
                at / axis.shown * axis.length for at, axis in zip(corner, self.axes, strict=True)
            )
            points.append(f"{self.left + x + z * _SLANT:.1f} {_MARGIN + back + y - z * _SLANT:.1f}")
        return "M" + " L".join(points)


def as_svg(plan: "Plan") -> str:
    """Return the drawing of a plan as SVG, which is valid XML."""
    layers = list(_layers(plan))
    faces = _faces(plan, layers)
    parts = []
    for face in faces:
        array = _Layer(text="", shape=plan.shape, color="#888888", width=1.5)
        parts.append(_path_element(face.box(array), array))
        for layer in layers:
            grid = face.grid(layer) if layer.is_grid else ""
            parts.append(_path_element(f"{grid} {face.box(layer)}".strip(), layer))
    top = 2 * _MARGIN + max(face.height for face in faces)
    notes = list(_notes(plan, faces))
    parts += [_legend_line(top + _LINE_HEIGHT * n, layer) for n, layer in enumerate(layers)]
    last = top + _LINE_HEIGHT * len(layers)
    parts += [_text(_MARGIN, last + _LINE_HEIGHT * n, note) for n, note in enumerate(notes)]
    texts = [*(layer.text + " " * 5 for layer in layers), *notes]
    width = max(faces[-1].left + faces[-1].width, max(map(len, texts)) * _TEXT_WIDTH) + 2 * _MARGIN
    height = last + _LINE_HEIGHT * len(notes) + _MARGIN / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="sans-serif" '
        f'font-size="12"><title>{html.escape(_title(plan))}</title>{"".join(parts)}</svg>'
    )


def _title(plan: "Plan") -> str:
    return f"How an array of shape {plan.shape} is cut into blocks and chunks"


def _layers(plan: "Plan") -> Iterator[_Layer]:
    """Yield what is drawn, the widest strokes first."""
    yield _Layer(
        text=f"block {plan.block_shape}, {format_size(plan.block_nbytes)} in memory",
        shape=plan.block_shape,
        color="#e69f00",
        width=3,
    )
    if plan.shard_shape is not None:
        text = f"shard {plan.shard_shape}, one file"
        yield _Layer(text=text, shape=plan.shard_shape, color="#cc79a7", width=2)
    text = f"chunk {plan.chunk_shape}, {format_size(plan.chunk_nbytes)}"
    yield _Layer(text=text, shape=plan.chunk_shape, color="#0072b2", width=0.8)
    for number, cost in enumerate(plan.windows[:_MOST_WINDOWS]):
        yield _Layer(
            text=f"window {cost.window.shape}, {format_size(cost.wanted_nbytes)}",
            shape=cost.window.shape,
            color=_WINDOW_COLORS[number % len(_WINDOW_COLORS)],
            width=2,
            dash=_WINDOW_DASHES[number % len(_WINDOW_DASHES)],
            # Anywhere but at the edge of a chunk, and not on top of each other.
            place=(0.37 + 0.29 * number) % 1,
            is_grid=False,
        )


def _faces(plan: "Plan", layers: Sequence[_Layer]) -> list[_Face]:
    """Return the faces in a row; the axes of very many dimensions that are longest."""
    axes = list(range(len(plan.shape)))
    most = 3 * _MOST_FACES
    if len(axes) > most:
        axes = sorted(sorted(axes, key=lambda axis: -plan.shape[axis])[:most])
    groups = [axes[max(0, stop - 3) : stop] for stop in range(len(axes), 0, -3)][::-1] or [[]]
    shown = [_shown(axis, plan, layers) for axis in range(len(plan.shape))]
    longest = max((shown[axis] for axis in axes), default=1.0)
    faces: list[_Face] = []
    left = _MARGIN
    for group in groups:
        drawn = [
            _Axis(number=axis, shown=shown[axis], length=_length(shown[axis], longest))
            for axis in group
        ]
        absent = [_Axis(number=None, shown=1.0, length=n) for n in (0.0, _THIN, _THIN)]
        back, down, right = (*absent[: 3 - len(drawn)], *drawn)
        faces.append(_Face(axes=(back, down, right), left=left))
        left += faces[-1].width + 2 * _MARGIN
    return faces


def _shown(axis: int, plan: "Plan", layers: Sequence[_Layer]) -> float:
    """Return the elements of an axis that are drawn: a few blocks, and every window whole."""
    widest = max(layer.shape[axis] * (_BLOCKS_SHOWN if layer.is_grid else 1) for layer in layers)
    return float(max(1, min(plan.shape[axis], widest)))


def _length(shown: float, longest: float) -> float:
    compressed: float = (shown / longest) ** _COMPRESSION
    return max(_SHORTEST, _LONGEST * compressed)


def _notes(plan: "Plan", faces: Sequence[_Face]) -> Iterator[str]:
    """Yield what the drawing leaves out."""
    drawn = [axis for face in faces for axis in face.axes if axis.number is not None]
    if 0 in plan.shape:
        yield "the array has no elements"
    elif any(axis.shown < plan.shape[axis.number or 0] for axis in drawn):
        part = tuple(int(axis.shown) for axis in drawn)
        yield f"drawn is the part {part} of an array of {plan.shape}"
    else:
        yield f"array {plan.shape}, {format_size(plan.nbytes)}"
    if len(drawn) < len(plan.shape):
        yield f"only the {len(drawn)} longest of {len(plan.shape)} axes are drawn"
    if len(plan.windows) > _MOST_WINDOWS:
        yield f"only the first {_MOST_WINDOWS} of {len(plan.windows)} windows are drawn"


def _path_element(path: str, layer: _Layer) -> str:
    return f'<path d="{path}" {layer.style}/>'


def _legend_line(top: float, layer: _Layer) -> str:
    path = f"M{_MARGIN} {top - 4:.1f} L{_MARGIN + 24} {top - 4:.1f}"
    return _path_element(path, layer) + _text(_MARGIN + 32, top, layer.text)


def _text(left: float, top: float, text: str) -> str:
    return f'<text x="{left:g}" y="{top:.1f}" fill="currentColor">{html.escape(text)}</text>'


def as_text(plan: "Plan") -> str:
    """Return the table as plain text, one line for each answer."""
    rows = _rows(plan)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def as_html(plan: "Plan") -> str:
    """Return the table as HTML, and the drawing below it, for notebooks."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in _rows(plan)
    )
    return f"<table>{cells}</table>{as_svg(plan)}"


def _rows(plan: "Plan") -> list[tuple[str, str]]:
    rows = [
        ("array", f"{plan.shape} {plan.dtype}, {format_size(plan.nbytes)}"),
        ("on disk", _on_disk(plan)),
        ("in memory", _in_memory(plan)),
        ("tasks", f"{plan.n_tasks} {plural('block', plan.n_tasks)}, {plan.workers} at a time"),
        ("source", _source_reads(plan)),
    ]
    rows += [("window", _window(cost)) for cost in plan.windows]
    if plan.reasons:
        rows.append(("why", "; ".join(plan.reasons)))
    rows += [("advice", f"{message} [{code}]") for code, message in plan.advice]
    return rows


def _on_disk(plan: "Plan") -> str:
    text = (
        f"{plan.n_chunks} {plural('chunk', plan.n_chunks)} of {plan.chunk_shape}, "
        f"{format_size(plan.chunk_nbytes)} each before encoding"
    )
    if plan.shard_shape is not None:
        text += f", in {plan.n_shards} {plural('shard', plan.n_shards)} of {plan.shard_shape}"
    if plan.format == "zarr":
        text += f"; {plan.n_files} {plural('file', plan.n_files)}"
    return text


def _in_memory(plan: "Plan") -> str:
    origin = ' (memory_limit="auto": half of what is free)' if plan.limit_is_auto else ""
    return (
        f"blocks of {plan.block_shape}, {format_size(plan.block_nbytes)} each; at most "
        f"{format_size(plan.peak_nbytes)} of {format_size(plan.memory_limit)} in all{origin}"
    )


def _source_reads(plan: "Plan") -> str:
    if plan.read_shape is not None:
        whose = "the array's own blocks" if plan.is_graph else "the source's blocks"
        return (
            f"read 1.0x: {whose}, at most {plan.read_shape}, are read once each; chunks are "
            "assembled in memory, and past the limit in a scratch file beside the target"
        )
    if plan.read_amplification <= 1.0:
        return "read 1.0x"
    cause = "blocks are narrower than a row of the file"
    if plan.source_chunk_shape is not None:
        cause = f"blocks cut across the source's chunks {plan.source_chunk_shape}"
    return f"read {round(plan.read_amplification, 2)}x, because {cause}"


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
