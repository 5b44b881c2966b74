"""The drawing of a plan: valid, small, and of what the plan says."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.planning.display import as_svg

SVG = "{http://www.w3.org/2000/svg}"

extents = st.one_of(st.integers(0, 30), st.integers(1, 10**6), st.integers(1, 2**62))
shapes = st.lists(extents, max_size=7).map(tuple)


def parsed(plan):
    """Return the drawing, parsed as the XML that it has to be."""
    text = as_svg(plan)
    assert len(text) < 200_000
    return ET.fromstring(text)


def texts(tree):
    """Return the lines of the legend and the notes below it."""
    return [element.text for element in tree.iter(f"{SVG}text")]


def points(path):
    """Return the corners of a path, in pixels."""
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@given(
    data=st.data(),
    shape=shapes,
    format=st.sampled_from(["hdf5", "zarr"]),
    with_windows=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_plan_has_a_drawing(data, shape, format, with_windows):
    """It is valid XML of bounded size, and all that is drawn lies inside the frame."""
    access = None
    if with_windows:
        access = [data.draw(st.tuples(*[st.integers(1, max(1, n)) for n in shape]))]
    shards = "auto" if format == "zarr" else None
    plan = lazyio.plan(shape, "u1", format=format, shards=shards, access=access)
    tree = parsed(plan)
    width, height = float(tree.get("width")), float(tree.get("height"))
    for path in tree.iter(f"{SVG}path"):
        for x, y in points(path.get("d")):
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert (len([line for line in texts(tree) if line.startswith("window")]) > 0) == with_windows
    assert ET.fromstring(f"<div>{plan._repr_html_()}</div>") is not None


def test_legend():
    """Each kind of box has a line of the legend, in a stroke of its own."""
    plan = lazyio.plan(
        (7000, 384), "i2", format="zarr", shards=(1000, 384), access=[(3000, 1), (1, 384)]
    )
    tree = parsed(plan)
    lines = texts(tree)
    assert lines[0].startswith(f"block {plan.block_shape}")
    assert lines[1] == "shard (1000, 384), one file"
    assert lines[2].startswith(f"chunk {plan.chunk_shape}")
    assert lines[3:5] == ["window (3000, 1), 5.86 KiB", "window (1, 384), 768 B"]
    strokes = {
        (path.get("stroke"), path.get("stroke-dasharray")) for path in tree.iter(f"{SVG}path")
    }
    # Block, shard, chunk, two windows, and the array itself.
    assert len(strokes) == 6


def test_lines_lie_between_chunks():
    """Between four by two chunks there are three lines and one, at their edges."""
    plan = lazyio.plan((400, 200), "u1", chunks=(100, 100), block_shape=(400, 200))
    tree = parsed(plan)
    frame, _, chunks = list(tree.iter(f"{SVG}path"))[:3]
    left, top = points(frame.get("d"))[0]
    right, bottom = points(frame.get("d"))[2]
    lines = [points(line) for line in chunks.get("d").split("M")[1:]][:-1]
    across = sorted({round(line[0][1], 1) for line in lines if line[0][1] == line[1][1]} - {top})
    down = sorted({line[0][0] for line in lines if line[0][0] == line[1][0]} - {left})
    assert across == pytest.approx([top + (bottom - top) * n / 4 for n in (1, 2, 3)], abs=0.1)
    assert down == pytest.approx([(left + right) / 2], abs=0.1)


def test_very_many_chunks_are_not_drawn():
    """A part of 10**12 chunks is drawn, and said to be one."""
    plan = lazyio.plan((10**9, 10**9), "u1", chunks=(1000, 1000))
    assert plan.n_chunks == 10**12
    assert any("drawn is the part" in line for line in texts(parsed(plan)))
    assert len(as_svg(plan)) < 30_000


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((), "array (), 2 B"),
        ((0, 5), "the array has no elements"),
        ((2,) * 14, "only the 12 longest of 14 axes are drawn"),
    ],
    ids=str,
)
def test_notes(shape, note):
    """What is not drawn is said."""
    assert note in texts(parsed(lazyio.plan(shape, "i2")))


def test_many_windows():
    """More windows than colours are drawn, not without end."""
    plan = lazyio.plan((100, 100), "i2", access=[(n, 1) for n in range(1, 20)])
    lines = texts(parsed(plan))
    assert len([line for line in lines if line.startswith("window")]) == 6
    assert "only the first 6 of 19 windows are drawn" in lines
