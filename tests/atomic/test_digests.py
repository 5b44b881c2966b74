"""Digests and their tables: every change shows, and a table that is damaged says so."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyio.atomic.digests import (
    ELEMENTS,
    PAYLOADS,
    Hash,
    NotedDigests,
    Table,
    digest_of,
    merged,
    merged_runs,
    of_array,
    renumbered,
)
from lazyio.regions import flat_index, index_at
from lazyio.spill import Spill

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_pieces_have_the_digest_of_the_whole(data, cuts):
    hash_ = Hash(seed=3)
    edges = sorted(min(cut, len(data)) for cut in cuts)
    for start, stop in zip([0, *edges], [*edges, len(data)], strict=True):
        hash_.update(data[start:stop])
    assert hash_.value == digest_of(data, seed=3)


@given(st.binary(min_size=1, max_size=100), st.integers(0))
def test_a_flipped_bit_shows(data, bit):
    flipped = bytearray(data)
    flipped[bit // 8 % len(data)] ^= 1 << bit % 8
    assert digest_of(bytes(flipped)) != digest_of(data)
    assert digest_of(data, seed=1) != digest_of(data)


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(0, 2**128 - 2))))
def test_what_was_noted_last_counts(notes):
    """As in a dict; what is dropped comes back only when it is noted again."""
    noted = NotedDigests()
    known = {chunk: digest for chunk, digest in dict(notes).items() if digest is not None}
    for chunk, digest in notes:
        noted.note(chunk, digest)
    table = Table(facts={}, rows=noted.rows(), of=PAYLOADS)
    assert table.rows[:, 0].tolist() == sorted(known)
    assert {chunk: table.find(chunk) for chunk in known} == known
    assert table.find(21) is None


def test_what_is_dropped_is_no_longer_known():
    old = np.array([[1, 0, 5], [2, 0, 6], [3, 0, 7]], np.uint64)
    noted = NotedDigests()
    noted.note(2, None)
    noted.note(3, 9)
    assert noted.rows(old).tolist() == [[1, 0, 5], [3, 0, 9]]


@pytest.mark.parametrize("has_room", [True, False])
@given(
    st.lists(st.tuples(st.integers(0, 40), st.none() | st.integers(0, 2**128 - 2)), max_size=200),
    st.dictionaries(st.integers(0, 40), st.integers(0, 2**128 - 2)),
    st.integers(1, 9),
)
def test_digests_that_go_to_a_file(has_room, notes, before, n_held):
    """As a dict has them, whenever they are put away, also where there is no room for a file."""
    oracle = dict(before)
    old = [[chunk, value >> 64, value % 2**64] for chunk, value in sorted(before.items())]
    error = None if has_room else OSError(28, "No space left on device")
    with (
        mock.patch("lazyio.atomic.digests._MOST_HELD", 3 * n_held),
        mock.patch("lazyio.atomic.digests._SLAB", 64),
        mock.patch("lazyio.atomic.digests.Spill", side_effect=error, wraps=Spill),
    ):
        noted = NotedDigests()
        for chunk, digest in notes:
            noted.note(chunk, digest)
            oracle[chunk] = digest
        rows = noted.rows(np.array(old, np.uint64).reshape(-1, 3))
        again = noted.rows(np.array(old, np.uint64).reshape(-1, 3))
    found = {chunk: high << 64 | low for chunk, high, low in rows.tolist()}
    assert list(found) == sorted(found)
    assert found == {chunk: digest for chunk, digest in oracle.items() if digest is not None}
    assert again.tolist() == rows.tolist()


@given(st.lists(st.lists(st.integers(0, 300), unique=True).map(sorted), max_size=6))
def test_runs_are_merged_page_by_page(keys):
    """Later ones count."""
    runs, oracle = [], {}
    for number, chunks in enumerate(keys):
        rows = np.array([[chunk, 0, number] for chunk in chunks], np.uint64).reshape(-1, 3)
        runs.append(of_array(rows))
        oracle |= dict.fromkeys(chunks, number)
    with mock.patch("lazyio.atomic.digests._SLAB", 1):
        pages = list(merged_runs(runs))
    found = [(chunk, number) for page in pages for chunk, _, number in page.tolist()]
    assert found == sorted(oracle.items())


def test_a_long_session_keeps_no_more_than_there_is():
    """Every flush notes the last row of chunks anew."""
    with (
        mock.patch("lazyio.atomic.digests._MOST_HELD", 3 * 256),
        mock.patch("lazyio.atomic.digests._LEAST_COMPACTED", 2000),
    ):
        noted = NotedDigests()
        for turn in range(3000):
            for chunk in range(turn // 100, turn // 100 + 100):
                noted.note(chunk, turn + chunk)
    assert len(noted._chunks._spill) < 3 * 2000
    assert len(noted.rows()) == 129


@given(st.data(), shapes)
def test_positions_in_a_grid_that_grows(data, grid):
    """Every chunk keeps its place along each axis."""
    grown = tuple(n + data.draw(st.integers(0, 3)) for n in grid)
    n_chunks = int(np.prod(grid))
    rows = np.array([[at, 0, at] for at in range(n_chunks)], np.uint64)
    for position, _, digest in renumbered(rows, grid, grown).tolist():
        assert index_at(position, grown) == index_at(digest, grid)
        assert flat_index(index_at(digest, grid), grid) == digest


def test_a_table_is_what_was_stored():
    rows = merged(np.empty((0, 3), np.uint64), np.array([[4, 2**63, 1]], np.uint64))
    table = Table(facts={"dtype": "a"}, rows=rows, of=ELEMENTS, job={"facts": "b"})
    found = Table.read(table.head().encode(), rows)
    assert found.facts == table.facts
    assert found.job == table.job
    assert found.of == ELEMENTS
    assert found.find(4) == table.find(4)


def test_a_damaged_table_says_so():
    """Whatever is changed of it."""
    rows = np.array([[4, 1, 2], [5, 3, 4]], np.uint64)
    head = Table(facts={"dtype": "a"}, rows=rows, of=PAYLOADS).head().encode()
    for at in range(len(head)):
        for bit in range(7):
            changed = head[:at] + bytes([head[at] ^ 1 << bit]) + head[at + 1 :]
            with pytest.raises(ValueError, match="its digests"):
                Table.read(changed, rows)
    for at in range(rows.size):
        other = rows.copy()
        other.ravel()[at] ^= np.uint64(1)
        with pytest.raises(ValueError, match="damaged themselves"):
            Table.read(head, other)


@pytest.mark.parametrize("head", ["", "[]", "{}", "null", '{"digest": 1, "format": 1}'])
def test_no_table_at_all(head):
    with pytest.raises(ValueError, match="damaged themselves"):
        Table.read(head, np.empty((0, 3), np.uint64))
