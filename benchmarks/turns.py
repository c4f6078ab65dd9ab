"""Ways of doing the same that work by turns, each in a process of its own or all in one.

What else the machine does then falls on both alike. A process each, because how memory is got is part of a way: it is
settled when a process starts.
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
"""The C library's own way of getting memory."""
TUNED = allocator.GLIBC_TUNABLES
"""The way of the jobs that the DAG starts."""


class Apart:
    """Something made in a process of its own, which waits while nothing is asked of it.

    Args:
        make: called there with `arguments`; must be importable.
        memory: how that process gets memory, which the C library reads when it starts.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any, memory: str) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_serve, args=(other, make, arguments))
        with mock.patch.dict(os.environ, {"GLIBC_TUNABLES": memory}):
            self.process.start()
        other.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method of that name returns there."""
        self.connection.send((method, arguments))
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process."""
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
    """Everything in `ways` made from the same arguments, and closed in the end.

    Args:
        ways: name -> what makes it, and how its process gets memory: `DEFAULT` or `TUNED`.
        together: all in this process, with the memory that it has.
    """
    with contextlib.ExitStack() as stack:
        made: dict[str, Apart | Here] = {}
        for name, (make, memory) in ways.items():
            way = Here(make, *arguments) if together else Apart(make, *arguments, memory=memory)
            made[name] = stack.enter_context(contextlib.closing(way))
        yield made


def most_memory() -> float:
    """The most memory that this process has had, in GiB."""
    # Not resource.getrusage: that counts what the process was before it became this program, its parent's copy.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20  # KiB


def _serve(connection: Connection, make: Callable[..., Any], arguments: tuple) -> None:
    with contextlib.closing(Here(make, *arguments)) as here:
        while True:
            try:
                method, given = connection.recv()
            except EOFError:  # nobody asks any more
                return
            connection.send(here.ask(method, *given))
