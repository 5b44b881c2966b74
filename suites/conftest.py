"""What xarray's own tests expect of the project that they lie in."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks of xarray."""
    for line in (
        "flaky",
        "network",
        "slow",
        "asyncio",
        "skip_if_param(reason, **params)",
        "skip_with_dask_array",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what its mark says of the parameters that it has, as xarray's own settings do."""
    for item in items:
        for mark in item.iter_markers("skip_if_param"):
            given = dict(mark.kwargs)
            reason, condition = given.pop("reason", ""), given.pop("condition", True)
            own = item.callspec.params if hasattr(item, "callspec") else {}
            if condition and all(own.get(name) == value for name, value in given.items()):
                item.add_marker(pytest.mark.skip(reason=reason))
