"""The process whose children's system calls fail, one by one; see faults.py.

It has one thread and all modules, so that a child costs milliseconds.
"""

import contextlib
import ctypes
import errno
import gc
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.fault_cases import Failed, Interrupted, Operation, operations
from benchmarks.soak.faults import Trial
from lazyio.atomic.recovery import recover
from lazyio.errors import LazyioError

_KINDS = (
    *("open", "write", "read", "fsync", "rename", "unlink", "mkdir", "truncate", "allocate"),
    *("flock", "mmap", "close", "link", "chmod", "thread"),
)
"""In the order of the C file."""

_NUMBERS = {
    "open": "EACCES EMFILE ENFILE ENOSPC EIO ENOMEM EINTR",
    "write": "ENOSPC EIO EDQUOT EFBIG EINTR short",
    "read": "EIO ENOMEM EINTR short",
    "fsync": "EIO ENOSPC EDQUOT",
    "rename": "EACCES EIO ENOSPC EROFS",
    "unlink": "EACCES EIO EROFS",
    "mkdir": "EACCES ENOSPC EIO",
    "truncate": "EIO ENOSPC EINTR",
    "allocate": "ENOSPC EIO",
    "flock": "ENOLCK EINTR EIO",
    "mmap": "ENOMEM",
    "close": "EIO ENOSPC",
    "link": "EPERM EMLINK EIO",
    "chmod": "EPERM EIO",
    "thread": "EAGAIN",
}
_LIMITS = ("size", "files", "disk")
"""Limits instead of calls: bytes of a file, descriptors, bytes of a disk."""
_HARMLESS = {"EINTR"}
"""What is to be tried again where bytes are moved, so that nobody sees it."""
_PENDING = "to be recovered to "
_PATIENCE = 20.0
_PAGE = 4096


@dataclass(frozen=True)
class Fault:
    """One call that fails, or all from it on; or a limit, of which ``nth`` is the amount."""

    kind: str
    nth: int
    how: str
    lasts: bool

    def __str__(self) -> str:
        """Return it as ``--replay`` takes it."""
        return f"{self.kind} {self.nth} {self.how} {'on' if self.lasts else 'once'}"

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Return what was printed."""
        kind, nth, how, lasts = text.split()
        return cls(kind, int(nth), how, lasts == "on")


def main() -> None:
    """Run the trials that the argument asks for, and print each as a line of JSON."""
    order = json.loads(sys.argv[1])
    folder = Path(order["folder"])
    known = {name: operations()[name] for name in order["names"]}
    _warm(known, folder)
    gc.collect()
    gc.freeze()  # So that children share its memory with it.
    templates: dict[str, tuple[Path, dict[str, int]]] = {}
    for seed in range(order["seed"], order["seed"] + order["n"]):
        rng = random.Random(seed)
        operation = known[rng.choice(order["names"])]
        if operation.name not in templates:
            templates[operation.name] = _look(operation, folder)
        template, counts = templates[operation.name]
        fault = Fault.parse(order["fault"]) if order["fault"] else _choose(rng, counts)
        here = folder / "trial"
        with _disk(here, fault):
            shutil.copytree(template, here, dirs_exist_ok=True)
            trial = _try(operation, fault, here, seed)
        if trial is not None:
            print(json.dumps(asdict(trial)), flush=True)


def _warm(known: dict[str, Operation], folder: Path) -> None:
    """Import here what operations import later, as a child found it."""

    def modules() -> list[str]:
        for name, operation in known.items():
            operation.begin(folder / name)
            with contextlib.suppress(Exception):
                operation.do(folder / name)
        return list(sys.modules)

    for name in _in_child(modules)[1]:
        with contextlib.suppress(ImportError):
            __import__(name)
    for name in known:
        shutil.rmtree(folder / name, ignore_errors=True)


def _look(operation: Operation, folder: Path) -> tuple[Path, dict[str, int]]:
    """Return a folder with what is there before, and how many calls of each kind are made."""
    template, here = folder / f"template-{operation.name}", folder / "trial"

    def begin() -> None:
        operation.begin(template)

    def count() -> dict[str, int]:
        _arm(here, None)
        operation.do(here)
        counts = {kind: _counted(at) for at, kind in enumerate(_KINDS)}
        nbytes = [file.stat().st_size for file in here.rglob("*") if file.is_file()]
        return {**counts, "size": max(nbytes, default=1) + 512, "files": 12, "disk": 32}

    for function in (begin, count):
        if function is count:
            shutil.copytree(template, here)
        ended, found = _in_child(function)
        if ended != "returned":
            msg = f"{operation.name} fails without a fault: {found}"
            raise RuntimeError(msg)
    shutil.rmtree(here)
    counts: dict[str, int] = found
    return template, counts


def _choose(rng: random.Random, counts: dict[str, int]) -> Fault:
    limits = _LIMITS if os.geteuid() == 0 else _LIMITS[:2]
    kind = rng.choice([kind for kind in (*_KINDS, *limits) if counts[kind]])
    nth = rng.randint(1, counts[kind])
    if kind in _LIMITS:
        return Fault(kind, nth, "limit", lasts=True)
    how = rng.choice(_NUMBERS[kind].split())
    return Fault(kind, nth, how, lasts=how not in (*_HARMLESS, "short") and rng.random() < 0.3)


def _try(operation: Operation, fault: Fault, here: Path, seed: int) -> Trial | None:
    """Run an operation with a fault, and look at what it leaves; ``None`` if nothing happened."""

    def do() -> dict[str, Any]:
        outcome: dict[str, Any] = {"class": None, "errno": None, "is_ours": True, "text": ""}
        undo = _arm(here, fault)
        try:
            outcome["sure"] = operation.do(here) or 0
        except BaseException as raised:  # noqa: BLE001 - judged by the parent
            undo()
            error: BaseException | None = raised
            if isinstance(raised, Interrupted):
                outcome["sure"], error = raised.n_sure, raised.__cause__
            outcome |= {
                "class": type(error).__name__,
                "errno": getattr(error, "errno", None),
                "is_ours": isinstance(error, LazyioError),
                "text": "; ".join([str(error), *getattr(error, "__notes__", ())]),
                "trace": "".join(traceback.format_exception(error)),
            }
        undo()
        fired = ctypes.c_long(_library().faults_fired()).value
        outcome["fired"] = fired or fault.kind in _LIMITS
        return outcome

    ended, found = _in_child(do)
    if ended == "returned" and not found["fired"]:
        return None
    if ended == "returned" and os.environ.get("FAULTS_TRACE"):
        print(found.get("trace", ""), file=sys.stderr)
    violation, detail = (ended, str(found)) if ended != "returned" else _judge(fault, found)
    sure = found.get("sure", 0) if ended == "returned" else 0

    def look() -> dict[str, Any]:
        left = _left_in(here, operation)
        state = _state(operation, here, sure)
        again, after = "", state
        if "new" not in state or operation.grows:
            try:
                operation.again(here)
            except Exception as error:  # noqa: BLE001 - told
                again = f"{type(error).__name__}: {error}"
            after = "new" if operation.grows else _state(operation, here, 0)
            left_after = _left_in(here, operation)
        else:
            recover(here / operation.target)
            left_after = _left_in(here, operation)
        return {
            "left": left,
            "state": state,
            "after": after,
            "again": again,
            "left_after": left_after,
        }

    ended, seen = _in_child(look)
    if violation is None:
        violation, more = _compare(operation, fault, found, ended, seen)
        detail = f"{more}; {detail}" if more else detail
    return Trial(
        seed=seed,
        operation=operation.name,
        fault=str(fault),
        violation=violation,
        detail=detail,
    )


def _state(operation: Operation, here: Path, n_sure: int) -> str:
    """Return what is there; where stock readers cannot tell, once it has been recovered."""
    try:
        state = operation.state(here, n_sure)
    except (OSError, LazyioError, ValueError) as error:
        state = f"{type(error).__name__}: {error}"
    if state in ("new", "old new"):
        return state
    # A change may be complete in its log, and said to be made.
    recover(here / operation.target)
    recovered = operation.state(here, n_sure)
    return state if recovered == state else f"{_PENDING}{recovered}"


def _judge(fault: Fault, found: dict[str, Any]) -> tuple[str | None, str]:
    """Return what is wrong with how an operation ended, and how it did."""
    if found["class"] is None:
        return None, "returned"
    detail = f"{found['class']}(errno {found['errno']}): {found['text']}"
    if found["class"] == Failed.__name__:
        # A disk that cannot be read is damage; what the machine lacks says nothing of the file.
        is_so = found["text"] == "unverifiable" or fault.how == "EIO"
        return None if is_so else "accuses the file", detail
    if not found["is_ours"]:
        return f"foreign {found['class']}", detail
    if fault.kind in ("read", "write") and fault.how in (*_HARMLESS, "short"):
        return "told of what is harmless", detail
    if found["errno"] is None:
        return f"no errno in {found['class']}", detail
    expected = getattr(errno, fault.how, None)
    if expected is not None and found["errno"] != expected:
        return "another errno", detail
    return None, detail


def _compare(
    operation: Operation, fault: Fault, found: dict[str, Any], ended: str, seen: Any
) -> tuple[str | None, str]:
    """Return what is wrong with what an operation left."""
    if ended != "returned":
        return f"looking at it: {ended}", str(seen)
    state, failed = seen["state"], found["class"] is not None
    if operation.name == "recover" and failed and state == f"{_PENDING}new":
        return None, ""
    state = state.removeprefix(_PENDING)
    if state not in ("old", "new", "old new"):
        return "neither old nor new", seen["state"]
    # Whose call it is to clear up is told that this failed; what was to be changed is.
    is_told = operation.name == "recover" and "cannot be cleared" in found["text"]
    if failed and "old" not in state and not (operation.grows or is_told):
        return "made, though it failed", seen["state"]
    if not failed and "new" not in state:
        return "not made, and no error", state
    if seen["again"]:
        return "cannot be done again", seen["again"]
    if seen["after"].removeprefix(_PENDING) not in ("new", "old new"):
        return "done again, and not there", seen["after"]
    # Nobody can remove a folder as long as it cannot be opened, or nothing be removed.
    is_bound = fault.kind in ("unlink", "files") or (
        fault.lasts and fault.kind in ("open", "read", "close")
    )
    # What is made stays made where clearing up fails.
    may_stay = not failed or operation.resumes or operation.grows or is_told
    may_stay |= operation.name == "clean"
    if seen["left"] and not (may_stay or is_bound):
        return "left behind", ", ".join(seen["left"])
    if seen["left_after"] and fault.kind != "unlink" and operation.name != "clean":
        return "left behind by the next call", ", ".join(seen["left_after"])
    return None, ""


def _left_in(here: Path, operation: Operation) -> list[str]:
    """Return what is in a folder and does not belong there."""
    found = [path.name for path in here.iterdir() if path.name.startswith(".")]
    target = here / operation.target
    if target.is_dir():
        found += [
            str(path.relative_to(here))
            for path in target.rglob("*")
            if path.name.endswith((".partial", ".lazyio")) or path.name.startswith(".lazyio-")
        ]
    return found


def _library() -> Any:
    return ctypes.CDLL(None)


def _counted(kind: int) -> int:
    return ctypes.c_long(_library().faults_count(kind)).value


def _arm(here: Path, fault: Fault | None) -> Callable[[], None]:
    """Have a call fail, or a limit hold, and return what takes that back."""
    library = _library()
    arm = [os.fsencode(here), -1, ctypes.c_long(0), 0, 0, 0]
    limit = None
    if fault is not None and fault.kind in _KINDS:
        number = getattr(errno, fault.how, 0)
        is_short = fault.how == "short"
        at = _KINDS.index(fault.kind)
        arm[1:] = [at, ctypes.c_long(fault.nth), number, int(is_short), int(fault.lasts)]
    elif fault is not None and fault.kind == "size":
        limit = resource.RLIMIT_FSIZE, fault.nth
    elif fault is not None and fault.kind == "files":
        limit = resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) - 1 + fault.nth
    if limit is not None:
        before = resource.getrlimit(limit[0])
        resource.setrlimit(limit[0], (limit[1], before[1]))
    library.faults_arm(*arm)

    def undo() -> None:
        library.faults_disarm()
        if limit is not None:
            resource.setrlimit(limit[0], before)

    return undo


@contextlib.contextmanager
def _disk(here: Path, fault: Fault) -> Iterator[None]:
    """Make a folder, on a disk of few pages where that is the fault."""
    here.mkdir()
    is_mounted = fault.kind == "disk"
    if is_mounted:
        used = 24 * _PAGE
        options = f"size={used + fault.nth * _PAGE}".encode()
        if ctypes.CDLL(None, use_errno=True).mount(b"x", os.fsencode(here), b"tmpfs", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
    try:
        yield
    finally:
        if is_mounted:
            ctypes.CDLL(None).umount2(os.fsencode(here), 2)
        shutil.rmtree(here, ignore_errors=True)


def _in_child(function: Callable[[], Any]) -> tuple[str, Any]:
    """Return how a function ended in a process of its own, and what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            devnull = os.open(os.devnull, os.O_WRONLY)
            if not os.environ.get("FAULTS_TRACE"):
                os.dup2(devnull, 2)
            os.dup2(devnull, 1)
            answer = json.dumps(function()).encode()
            _write_all(writer, answer)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - told to the parent
            _write_all(writer, traceback.format_exc().encode())
            os._exit(1)
    os.close(writer)
    raw, until = b"", time.monotonic() + _PATIENCE
    ended = None
    while True:
        if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
            ended = "hangs"
            break
        part = os.read(reader, 1 << 16)
        if not part:
            break
        raw += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if ended is not None:
        return ended, ""
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}", ""
    if os.WEXITSTATUS(status):
        return "raises", raw.decode(errors="replace")[-600:]
    return "returned", json.loads(raw)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
