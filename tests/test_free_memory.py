"""What is free: the kernel's word, and every control group above the process."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazyio
from lazyio import memory
from lazyio.errors import OptionError
from lazyio.memory import auto_limit, free_nbytes

GIB = 2**30
MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8388608 kB\n"
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.fixture
def root(tmp_path):
    """Return a system with 8 GiB available and no control groups."""
    write(tmp_path / "proc/meminfo", MEMINFO)
    return tmp_path


def write(path, text):
    """Write a file of the pretended system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(folder, names, limit, usage, cache=0):
    """Write a control group."""
    write(folder / names[0], f"{limit}\n")
    write(folder / names[1], f"{usage}\n")
    write(folder / "memory.stat", f"anon 5\n{names[2]} {cache}\nother 7\n")


def test_available_memory(root):
    """Without control groups it is what the kernel calls available."""
    assert free_nbytes(root) == 8 * GIB
    assert auto_limit(root) == 4 * GIB


@pytest.mark.parametrize(
    ("entry", "mount", "names"),
    [
        ("0::/user/job\n", "sys/fs/cgroup", V2),
        ("3:cpu,cpuacct:/x\n7:memory:/user/job\n1:name=systemd:/y\n", "sys/fs/cgroup/memory", V1),
        ("4:blkio,memory:/user/job\n0::/\n", "sys/fs/cgroup/memory", V1),
    ],
    ids=["version-2", "version-1", "both"],
)
def test_control_groups(root, entry, mount, names):
    """The tightest of nested limits counts; what only caches files is free."""
    write(root / "proc/self/cgroup", entry)
    inner, outer = root / mount / "user/job", root / mount / "user"
    group(inner, names, 6 * GIB, 2 * GIB, cache=GIB)
    assert free_nbytes(root) == 5 * GIB
    group(outer, names, 7 * GIB, 5 * GIB)
    assert free_nbytes(root) == 2 * GIB
    group(outer, names, "max" if names is V2 else 2**63 - 4096, 5 * GIB)
    assert free_nbytes(root) == 5 * GIB
    group(inner, names, 100 * GIB, GIB)
    assert free_nbytes(root) == 8 * GIB


@pytest.mark.parametrize("names", [V2, V1], ids=["version-2", "version-1"])
def test_a_container_sees_its_group_as_the_root(root, names):
    """The path that the host knows is not there; the limit lies at the root of the mount."""
    is_v2 = names is V2
    write(root / "proc/self/cgroup", "0::/docker/abc\n" if is_v2 else "7:memory:/docker/abc\n")
    mount = root / "sys/fs/cgroup" / ("" if is_v2 else "memory")
    group(mount, names, 2 * GIB, GIB)
    assert free_nbytes(root) == GIB


def test_a_group_over_its_limit(root):
    """Nothing free is no error here: the plan then says how much it needs."""
    write(root / "proc/self/cgroup", "0::/job\n")
    group(root / "sys/fs/cgroup/job", V2, GIB, 2 * GIB)
    assert free_nbytes(root) == 0
    assert auto_limit(root) == 1


def test_more_cache_than_usage(root):
    """Counters that are read one after the other need not agree."""
    write(root / "proc/self/cgroup", "0::/job\n")
    group(root / "sys/fs/cgroup/job", V2, GIB, 10, cache=100)
    assert free_nbytes(root) == GIB


@given(text=st.text(alphabet="0123456789:/,abmemory\n -", max_size=60))
@settings(max_examples=200, deadline=None)
def test_strange_files_are_passed_over(tmp_path_factory, text):
    """Files of another form say nothing, and raise nothing."""
    root = tmp_path_factory.mktemp("root")
    write(root / "proc/meminfo", MEMINFO)
    write(root / "proc/self/cgroup", text)
    write(root / "sys/fs/cgroup/memory.max", text)
    write(root / "sys/fs/cgroup/memory.current", "1\n")
    assert 0 <= free_nbytes(root) <= 8 * GIB


def test_systems_without_proc(tmp_path, monkeypatch):
    """Elsewhere it is the pages that are free, or half of all."""
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(os, "sysconf_names", dict.fromkeys(pages, 1))
    assert free_nbytes(tmp_path) == 500 * 4096
    pages["SC_AVPHYS_PAGES"] = 700
    monkeypatch.setattr(os, "sysconf_names", dict.fromkeys(pages, 1))
    assert free_nbytes(tmp_path) == 700 * 4096


def test_systems_that_do_not_say(tmp_path, monkeypatch):
    """Where nothing says what is free, a size is asked for."""
    monkeypatch.delattr(os, "sysconf_names")
    assert free_nbytes(tmp_path) is None
    with pytest.raises(OptionError, match=r'memory_limit="auto".*give a size, as "2 GiB"'):
        auto_limit(tmp_path)


def test_a_plan_says_that_its_limit_is_automatic(monkeypatch):
    """The plan prints the number, and where it comes from."""
    monkeypatch.setattr("lazyio.options.auto_limit", lambda: 3 * GIB)
    plan = lazyio.plan((10**6, 100), "f8", memory_limit="auto")
    assert plan.memory_limit == 3 * GIB
    assert 'of 3 GiB in all (memory_limit="auto": half of what is free)' in str(plan)
    assert "auto" not in str(lazyio.plan((10**6, 100), "f8", memory_limit="3 GiB"))


def test_this_system():
    """Here it is a number between nothing and everything."""
    free = memory.free_nbytes()
    assert 0 < free < 2**50
    assert lazyio.plan((100, 100), "i2", memory_limit="auto").memory_limit < 2**50
