"""Run several implementations of the same work in turns, each in a process of its own or all in one.

Turns make other load on the machine hit all alike. Each has its own process, because the allocator is part of an
implementation, and a process chooses it when it starts.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from safmn.device import allocator

DEFAULT = ""
"""The C library's default allocator settings."""
TUNED = allocator.GLIBC_TUNABLES
"""The allocator settings of the jobs that the workflow starts."""


class Apart:
    """An object in a process of its own, which waits between calls.

    Args:
        make: creates the object there from `arguments`; must be importable.
        memory: the allocator settings of that process.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any, memory: str) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_serve, args=(other, make, arguments))
        with mock.patch.dict(os.environ, {"GLIBC_TUNABLES": memory}):
            self.process.start()
        other.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object and return its result."""
        self.connection.send((method, arguments))
        return self.connection.recv()

    def close(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


class Here:
    """As `Apart`, in this process."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self.made = make(*arguments)

    def ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.made, method)(*arguments)

    def close(self) -> None:
        if hasattr(self.made, "close"):
            self.made.close()


@contextlib.contextmanager
def opened(
    ways: Mapping[str, tuple[Callable[..., Any], str]], together: bool, *arguments: Any
) -> Iterator[dict[str, Apart | Here]]:
    """Create the objects of all `ways` from the same arguments; close them at the end.

    Args:
        ways: name -> what creates it, and the allocator settings of its process: `DEFAULT` or `TUNED`.
        together: all in this process, with its allocator.
    """
    with contextlib.ExitStack() as stack:
        made: dict[str, Apart | Here] = {}
        for name, (make, memory) in ways.items():
            way = Here(make, *arguments) if together else Apart(make, *arguments, memory=memory)
            made[name] = stack.enter_context(contextlib.closing(way))
        yield made


def most_memory() -> float:
    """Return the peak memory of this process in GiB."""
    # Not resource.getrusage: that counts what the process was before it became this program, its parent's copy.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20  # KiB


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple) -> None:
    with contextlib.closing(Here(make, *arguments)) as here:
        while True:
            try:
                method, given = connection.recv()
            except EOFError:  # the parent closed the connection
                return
            connection.send(here.ask(method, *given))
