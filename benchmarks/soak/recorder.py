"""What a run does to the files of a folder, step by step, and the states it may leave behind.

A process that is killed leaves what it has done so far, the last write perhaps
in part. A power cut may also undo any write that was not yet forced to the disk,
and the last of the names that were given, for no order is promised between
them. Files that C code writes are known when they are forced to the disk, or
renamed: they are hidden until then.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from lazyio.atomic import workdir

Step = tuple[Any, ...]
Files = dict[str, bytes | None]
"""From paths below the folder to content, ``None`` for folders."""


class Recorder:
    """Notes what is done below a folder, while it is active."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.begun_with = snapshot(root)
        self.steps: list[Step] = []

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Note steps until the end of the context."""
        real = {name: getattr(os, name) for name in _WATCHED}
        with contextlib.ExitStack() as stack:
            for name, function in _WATCHED.items():
                wrapped = _wrapped(self, real[name], function)
                stack.enter_context(mock.patch.object(os, name, wrapped))
            exchange = workdir._exchange

            def exchanged(new: Path, target: Path, aside: Path) -> None:
                exchange(new, target, aside)
                self.note("exchange", new, target)

            stack.enter_context(mock.patch.object(workdir, "_exchange", exchanged))
            yield

    def note(self, kind: str, *details: Any) -> None:
        """Note one step, if it concerns the folder."""
        paths = [self._below(one) if isinstance(one, (str, Path)) else one for one in details]
        if paths[0] is not None:
            self.steps.append((kind, *paths))

    def note_content(self, path: str) -> None:
        """Note what a file holds that was written by others than Python."""
        below = self._below(path)
        if below is None or not os.path.isfile(path):
            return
        now = Path(path).read_bytes()
        if replay(self.begun_with, self.steps).get(below) != now:
            self.steps.append(("whole", below, now))

    def _below(self, path: str | Path) -> str | None:
        absolute = os.path.abspath(path)
        inside = absolute.startswith(f"{self.root}{os.sep}")
        return os.path.relpath(absolute, self.root) if inside else None


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _after_open(
    recorder: Recorder, _result: int, path: Any, flags: int, *_: Any, **__: Any
) -> None:
    if flags & os.O_CREAT:
        recorder.note("create", os.fspath(path))
    if flags & os.O_TRUNC:
        recorder.note("truncate", os.fspath(path), 0)


def _after_pwrite(recorder: Recorder, result: int, file: int, data: Any, at: int) -> None:
    recorder.note("write", _path_of(file), at, bytes(data[:result]))


def _after_write(recorder: Recorder, result: int, file: int, data: Any) -> None:
    path = _path_of(file)
    if os.path.isfile(path):
        # Appended, or written from the beginning on: either way it ends where the file does.
        at = os.lseek(file, 0, os.SEEK_CUR) - result
        recorder.note("write", path, at, bytes(data[:result]))


def _after_ftruncate(recorder: Recorder, _: Any, file: int, size: int) -> None:
    recorder.note("truncate", _path_of(file), size)


def _after_truncate(recorder: Recorder, _: Any, path: Any, size: int) -> None:
    recorder.note("truncate", os.fspath(path), size)


def _after_fsync(recorder: Recorder, _: Any, file: int) -> None:
    path = _path_of(file)
    recorder.note_content(path)
    recorder.note("fsync", path)


def _after_rename(recorder: Recorder, _: Any, old: Any, new: Any, **__: Any) -> None:
    recorder.note("rename", os.fspath(old), os.fspath(new))


def _after_unlink(recorder: Recorder, _: Any, path: Any, *, dir_fd: int | None = None) -> None:
    recorder.note("unlink", _joined(path, dir_fd))


def _after_rmdir(recorder: Recorder, _: Any, path: Any, *, dir_fd: int | None = None) -> None:
    recorder.note("rmdir", _joined(path, dir_fd))


def _after_mkdir(recorder: Recorder, _: Any, path: Any, *__: Any, **___: Any) -> None:
    recorder.note("mkdir", os.fspath(path))


def _after_link(recorder: Recorder, _: Any, old: Any, new: Any, **__: Any) -> None:
    recorder.note("whole", os.fspath(new), Path(old).read_bytes())


def _joined(path: Any, folder: int | None) -> str:
    return os.path.join(_path_of(folder), path) if folder is not None else os.fspath(path)


_WATCHED = {
    "open": _after_open,
    "pwrite": _after_pwrite,
    "write": _after_write,
    "ftruncate": _after_ftruncate,
    "truncate": _after_truncate,
    "fsync": _after_fsync,
    "rename": _after_rename,
    "replace": _after_rename,
    "unlink": _after_unlink,
    "remove": _after_unlink,
    "rmdir": _after_rmdir,
    "mkdir": _after_mkdir,
    "link": _after_link,
}


def _wrapped(recorder: Recorder, real: Any, after: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        after(recorder, result, *args, **kwargs)
        return result

    return call


def snapshot(root: Path) -> Files:
    """Return all that lies below a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def replay(files: Files, steps: list[Step]) -> Files:
    """Return the files after some steps."""
    files = dict(files)
    for step in steps:
        _apply(files, step)
    return files


def _apply(files: Files, step: Step) -> None:
    kind, path, *details = step
    if kind == "create":
        files.setdefault(path, b"")
    elif kind == "whole":
        files[path] = details[0]
    elif kind == "write":
        at, data = details
        old = files.get(path) or b""
        old = old.ljust(at, b"\0")
        files[path] = old[:at] + data + old[at + len(data) :]
    elif kind == "truncate":
        old = files.get(path) or b""
        files[path] = old[: details[0]].ljust(details[0], b"\0")
    elif kind == "mkdir":
        files.setdefault(path, None)
    elif kind in ("unlink", "rmdir"):
        files.pop(path, None)
    elif kind == "rename":
        _move(files, path, details[0])
    elif kind == "exchange":
        aside = "exchanged aside"
        _move(files, path, aside)
        _move(files, details[0], path)
        _move(files, aside, details[0])


def _move(files: Files, old: str, new: str) -> None:
    moved = {path: files.pop(path) for path in list(files) if _is_in(path, old)}
    for path in [path for path in files if _is_in(path, new)]:
        del files[path]
    files.update({new + path.removeprefix(old): content for path, content in moved.items()})


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def put(files: Files, root: Path) -> None:
    """Make a folder hold these files and nothing else."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for path, content in sorted(files.items()):
        if content is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)


@dataclass
class States:
    """The states that a recorded run may leave."""

    recorder: Recorder
    rng: random.Random
    names: set[str] = field(default_factory=lambda: {"rename", "exchange", "unlink", "rmdir"})

    def killed(self) -> Iterator[Files]:
        """Yield what is there after every step, and after half of every write."""
        files = dict(self.recorder.begun_with)
        yield dict(files)
        for step in self.recorder.steps:
            if step[0] == "write" and len(step[3]) > 1:
                torn = dict(files)
                _apply(torn, (*step[:3], step[3][: len(step[3]) // 2]))
                yield torn
            _apply(files, step)
            yield dict(files)

    def cut(self) -> Files:
        """Return what is there after a power cut at a random time."""
        steps = self.recorder.steps
        n_done = self.rng.randrange(len(steps) + 1)
        kept = []
        n_named = self._n_lasting_names(n_done)
        named = 0
        for at, step in enumerate(steps[:n_done]):
            if step[0] in self.names:
                named += 1
                if named > n_named:
                    continue
            elif step[0] in ("write", "whole") and not self._is_forced(at, n_done):
                dropped = self.rng.random()
                if dropped < 0.4:
                    continue
                if dropped < 0.5 and step[0] == "write":
                    step = (*step[:3], step[3][: self.rng.randrange(len(step[3]) + 1)])
            kept.append(step)
        return replay(self.recorder.begun_with, kept)

    def _n_lasting_names(self, n_done: int) -> int:
        """Return how many of the names that were given, or taken, are not undone."""
        steps = self.recorder.steps[:n_done]
        forced = 0
        n_names = 0
        for kind, path, *_ in steps:
            n_names += kind in self.names
            # Forcing a folder forces what came before it: file systems keep that order.
            if kind == "fsync" and os.path.isdir(self.recorder.root / path):
                forced = n_names
        return self.rng.randint(forced, n_names)

    def _is_forced(self, at: int, n_done: int) -> bool:
        """Return whether a write was forced to the disk before the power went."""
        path = self.recorder.steps[at][1]
        for kind, other, *details in self.recorder.steps[at + 1 : n_done]:
            if kind == "fsync" and other == path:
                return True
            if kind == "rename" and _is_in(path, other):
                path = details[0] + path.removeprefix(other)
        return False
