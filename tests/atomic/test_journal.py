"""The journal: what is torn or damaged is never believed, what came before it always."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyio.atomic.journal import Journal, Record, last_of_each, records_in

records = st.builds(
    Record,
    array=st.integers(0, 2**32 - 1),
    chunk=st.integers(0, 2**64 - 1),
    offset=st.integers(0, 2**64 - 1),
    nbytes=st.integers(0, 2**64 - 1),
    mask=st.integers(0, 2**32 - 1),
    digest=st.integers(0, 2**128 - 1),
)


def written(path, several):
    journal = Journal(path)
    for record in several:
        journal.append(record)
    journal.close()
    return path.read_bytes()


@given(st.lists(records, max_size=5))
def test_records_come_back(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("journal") / "journal"
    written(path, several)
    assert records_in(path) == (several, 0)
    assert [*last_of_each(several).values()] == [
        record
        for at, record in enumerate(several)
        if (record.array, record.chunk) not in {(r.array, r.chunk) for r in several[at + 1 :]}
    ] or len({(r.array, r.chunk) for r in several}) < len(several)


SEVERAL = [Record(0, at, 100 * at, 100, 0, at**9) for at in range(4)]


def test_a_tail_that_is_cut_anywhere(tmp_path):
    """Whole records count, the rest is cut off, and writing goes on behind them."""
    raw = written(tmp_path / "whole", SEVERAL)
    size = len(raw) // len(SEVERAL)
    for at in range(len(raw) + 1):
        path = tmp_path / "cut"
        path.write_bytes(raw[:at])
        journal = Journal(path)
        assert journal.records == SEVERAL[: at // size]
        assert journal.n_lost == 0
        journal.append(SEVERAL[0])
        journal.close()
        assert records_in(path) == ([*SEVERAL[: at // size], SEVERAL[0]], 0)


def test_a_bit_that_is_flipped_anywhere(tmp_path):
    """What is behind it is not believed, and counted."""
    raw = written(tmp_path / "whole", SEVERAL)
    size = len(raw) // len(SEVERAL)
    for at in range(len(raw)):
        path = tmp_path / "flipped"
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        found, n_lost = records_in(path)
        assert found == SEVERAL[: at // size]
        assert n_lost == len(SEVERAL) - at // size


def test_a_short_write_is_gone_on_with(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    for record in SEVERAL:
        journal.append(record)
    journal.close()
    assert records_in(tmp_path / "journal") == (SEVERAL, 0)


@pytest.mark.parametrize("cuts", [True, False])
def test_nothing_follows_a_record_that_failed(tmp_path, monkeypatch, cuts):
    """Not even once there is room again; what is left of it is taken back, or not believed."""
    journal = Journal(tmp_path / "journal")
    journal.append(SEVERAL[0])
    write, writes = os.write, []

    def full(descriptor, data):
        writes.append(data)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", full)
    if not cuts:
        monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        journal.append(SEVERAL[1])
    monkeypatch.undo()
    with pytest.raises(OSError, match="full"):
        journal.append(SEVERAL[2])
    journal.close()
    assert records_in(tmp_path / "journal") == (SEVERAL[:1], 0)


def test_a_disk_that_takes_nothing(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(OSError, match="No space left"):
        journal.append(SEVERAL[0])
    journal.close()
