"""The examples of training: a loader with torch's protocol, and ``partial_fit``."""

import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazyio

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def loader() -> Any:
    """Return the module of the stand-in."""
    given = importlib.util.spec_from_file_location("loader", EXAMPLES / "stand_in" / "loader.py")
    assert given is not None
    assert given.loader is not None
    module = sys.modules["loader"] = importlib.util.module_from_spec(given)
    given.loader.exec_module(module)
    yield module
    del sys.modules["loader"]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES / "stand_in"))  # For children, too.
    return tmp_path


@pytest.mark.parametrize("method", [None, "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_loader_gets_every_row_once(in_folder: Path, loader: Any, method: str | None) -> None:
    rows = np.arange(3000 * 8, dtype="f4").reshape(3000, 8)
    lazyio.to_hdf5(rows, "rows.h5", "x", chunks=(500, 8), compression="gzip")
    with lazyio.window("rows.h5") as view:
        view[0:64]
        workers = {} if method is None else {"num_workers": 2, "multiprocessing_context": method}
        batches = list(loader.DataLoader(view, batch_size=64, shuffle=True, **workers))
        assert len(batches) == 47
        found = np.concatenate(batches)
        assert np.array_equal(found[np.argsort(found[:, 0])], rows)
        assert (view.misses < 47) if method is None else view.misses == 1


@pytest.mark.parametrize("name", ["minibatches_torch", "minibatches_sklearn"])
def test_runs(in_folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    if name == "minibatches_sklearn":
        assert "right for 9" in capsys.readouterr().out
        return
    made["make"]("training.h5")
    with lazyio.window("training.h5", "rows") as rows:
        batches = made["DataLoader"](rows, batch_size=64, shuffle=True)
        weights = made["train"](batches, np.zeros(32, "f4"))
    assert np.abs(weights - made["true_weights"]).max() < 0.01
