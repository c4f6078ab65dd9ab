"""Commands in forks of a process that has imported what they need; to import Snakemake or torch anew takes seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVER = """
import importlib, json, os, runpy, signal, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(asked["patience"])
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        for number, file in enumerate([os.devnull, *asked["files"]]):
            os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        sys.path[0] = asked["folder"]
        sys.argv = asked["words"]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
PATIENCE = 3600  # seconds; no machine is that slow


class Forks:
    """A process that waits with modules imported; a command is run in a fork of it.

    Args:
        path: the folder of the `safmn` that the commands use.
        place: a folder for what they print.
        modules: what is imported before; not modules that the commands may find changed.
    """

    def __init__(self, path: Path, place: Path, *modules: str) -> None:
        self._path = str(path)
        self._files = [str(place / name) for name in ("stdout", "stderr")]
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *modules],
            env=os.environ | {"PYTHONPATH": self._path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m WORDS` in a folder, as `subprocess.run` would."""
        there = os.environ | {"PYTHONPATH": self._path} | environment
        asked = {"words": list(map(str, words)), "folder": str(folder), "environment": there}
        print(json.dumps(asked | {"files": self._files, "patience": PATIENCE}), file=self._server.stdin, flush=True)
        status = int(self._server.stdout.readline())
        return subprocess.CompletedProcess(words, status, *(Path(file).read_text() for file in self._files))

    def close(self) -> None:
        """End the process."""
        with self._server:  # closes its input
            pass
