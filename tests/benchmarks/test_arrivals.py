"""The comparison of what arrives, in short: every contender writes what is then checked."""

import pytest

from benchmarks.arrivals.compare import measure
from benchmarks.arrivals.tasks import TASKS


@pytest.mark.parametrize("task", ["append batches, gzip", "stream of rows", "sparse"])
def test_everybody_takes_part(tmp_path, task):
    found = measure(task, tmp_path, 1, is_short=True)
    assert found.keys() == TASKS[task][0].keys()
    assert all(one["seconds"] > 0 for one in found.values())
