"""Rows from and to awkward arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_lists import ragged, same

import lazyio
from lazyio.codecs import libraries
from lazyio.errors import OptionError

ak = pytest.importorskip("awkward")


@given(st.lists(st.lists(st.integers(-99, 99), max_size=6), min_size=1, max_size=12))
def test_numbers(rows) -> None:
    array = ak.values_astype(ak.Array(rows), "int32")
    found = lazyio.Ragged.from_awkward(array)
    assert [row.tolist() for row in found] == rows
    assert found.to_awkward().to_list() == rows
    back = lazyio.Ragged.from_awkward(ragged([np.array(row, "i4") for row in rows]).to_awkward())
    same(back[:], [np.array(row, "i4") for row in rows])


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3)), min_size=1))
def test_rows_of_three_axes(shapes) -> None:
    model = [np.arange(np.prod(shape), dtype="i4").reshape(shape) for shape in shapes]
    array = lazyio.Ragged.from_rows(model).to_awkward()
    assert array.to_list() == [row.tolist() for row in model]
    same(lazyio.Ragged.from_awkward(array)[:], model)


def test_text_and_parts_of_arrays(tmp_path) -> None:
    array = ak.Array([["a", "bc"], [], ["déf"]])
    rows = lazyio.Ragged.from_awkward(array)
    assert [row.tolist() for row in rows] == [["a", "bc"], [], ["déf"]]
    assert rows.to_awkward().to_list() == array.to_list()
    assert lazyio.Ragged.from_awkward(array[[2, 0]])[0].tolist() == ["déf"]
    lazyio.to_hdf5(rows, tmp_path / "x.h5", "r")
    assert lazyio.open_ragged(tmp_path / "x.h5", "r").to_awkward().to_list() == array.to_list()


def test_elements_of_one_shape() -> None:
    array = ak.Array([[[1, 2], [3, 4]], [], [[5, 6]]])
    array = ak.to_regular(array, axis=2)
    rows = lazyio.Ragged.from_awkward(array)
    assert rows.item_shape == (2,)
    assert rows.to_awkward().to_list() == array.to_list()
    assert lazyio.Ragged.from_awkward(ak.Array(np.ones((2, 3))))[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (ak.Array([1, 2]), "not made of lists"),
        (ak.Array([[1, None]]), "not made of lists|fill_none"),
        (ak.Array([[{"a": 1}]]), "not made of lists"),
        (ak.Array([[1], ["a"]]), "not made of lists"),
        (ak.Array([[[1], [2, 3]]]), "inner lists differ in length"),
        ([[1], [2]], "is no awkward.Array"),
    ],
)
def test_what_is_no_rows(array, what) -> None:
    with pytest.raises(OptionError, match=what):
        lazyio.Ragged.from_awkward(array)


def test_without_awkward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "optional", lambda _: None)
    with pytest.raises(OptionError, match=r'pip install "lazyio\[awkward\]"'):
        ragged([]).to_awkward()
