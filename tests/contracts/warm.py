"""Children that find everything imported: they are forked of one process that has done it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SERVER = """
import json, os, sys, traceback
import dask.array, h5py, numpy, zarr
import lazyio
lazyio.to_hdf5, lazyio.to_zarr, lazyio.writer

def work(asked):
    for number, name in enumerate(("out", "err"), 1):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["cwd"])
    sys.argv = ["-c", *asked["arguments"]]
    code = 1
    try:
        exec(compile(asked["script"], "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
    else:
        answer = os.fork()
        if not answer:
            work(asked)
    print(answer, flush=True)
"""


class Warm:
    """Runs scripts as ``python -c`` does."""

    def __init__(self):
        command = [sys.executable, "-W", "ignore", "-c", _SERVER]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def _ask(self, **asked):
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            code = self._process.wait()
            self._said.seek(0)
            msg = f"the process that forks children has ended with {code}: {self._said.read()}"
            raise AssertionError(msg) from error

    def start(self, script, *arguments, cwd="/", out=None, err=os.devnull):
        """Return a script that runs; what it says goes to a file, or can be read meanwhile."""
        asked = {"script": script, "arguments": [*map(str, arguments)], "cwd": str(cwd)}
        if out is not None:
            return Child(self._ask, self._ask(**asked, out=str(out), err=str(err)), None)
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder, "out")
            os.mkfifo(pipe)
            number = self._ask(**asked, out=str(pipe), err=str(err))
            return Child(self._ask, number, pipe.open())

    def run(self, script, *arguments, cwd="/"):
        """Return how a script ended, and what it has said."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            child = self.start(script, *arguments, cwd=cwd, out=out, err=err)
            code = child.wait()
            return subprocess.CompletedProcess(script, code, out.read_text(), err.read_text())

    def close(self):
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._said.close()
        self._process.stdout.close()


class Child:
    """One script that runs, with what ``subprocess.Popen`` has."""

    def __init__(self, ask, pid, stdout):
        self._ask, self.pid, self.stdout = ask, pid, stdout

    def send_signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self):
        """Return how it ended."""
        return self._ask(wait=self.pid)
