"""Measured times over expected ones, as a small SVG."""

import math
from collections.abc import Mapping, Sequence

_SIZE, _MARGIN = 300.0, 46.0
_COLORS = {"none": "#0072b2", "gzip": "#d55e00", "zstd": "#009e73"}
_NAMES = {-6: "1 us", -5: "10 us", -4: "100 us", -3: "1 ms", -2: "10 ms", -1: "100 ms", 0: "1 s"}


def scatter(title: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the drawing.

    Parameters
    ----------
    title : str
        Above it.
    points : mapping
        For each codec, pairs of expected and measured seconds.
    """
    every = [math.log10(max(n, 1e-7)) for pairs in points.values() for pair in pairs for n in pair]
    low, high = math.floor(min(every)), math.ceil(max(every))
    end = _MARGIN + _SIZE

    def at(seconds: float) -> float:
        return (math.log10(max(seconds, 1e-7)) - low) / (high - low) * _SIZE

    parts = [
        f'<text x="{_MARGIN}" y="18" font-size="13">{title}</text>',
        f'<path d="M{_MARGIN} {end}L{end} {_MARGIN}" stroke="#888" stroke-dasharray="4 3"/>',
    ]
    for power in range(low, high + 1):
        x, y = _MARGIN + at(10.0**power), end - at(10.0**power)
        name = _NAMES.get(power, f"1e{power} s")
        parts.append(f'<path d="M{x:.0f} {_MARGIN}V{end}M{_MARGIN} {y:.0f}H{end}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{end + 14}" text-anchor="middle">{name}</text>')
        parts.append(f'<text x="{_MARGIN - 4}" y="{y + 3:.0f}" text-anchor="end">{name}</text>')
    for number, (codec, pairs) in enumerate(points.items()):
        dots = "".join(f"M{_MARGIN + at(x):.0f} {end - at(y):.0f}h0" for x, y in pairs)
        style = f'stroke="{_COLORS[codec]}" stroke-width="3" stroke-linecap="round"'
        parts.append(f'<path d="{dots}" {style} opacity="0.6"/>')
        parts.append(f'<path d="M{_MARGIN + 12} {_MARGIN + 14 * (number + 1)}h0" {style}/>')
        parts.append(f'<text x="{_MARGIN + 20}" y="{_MARGIN + 14 * number + 18}">{codec}</text>')
    width, height = end + 24, end + 40
    middle = _MARGIN + _SIZE / 2
    parts.append(f'<text x="{middle}" y="{end + 30}" text-anchor="middle">expected</text>')
    turned = f'transform="rotate(-90)" x="{-middle}" y="10" text-anchor="middle"'
    parts.append(f"<text {turned}>measured</text>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="10" '
        f'fill="#333"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
