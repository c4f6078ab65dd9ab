"""The paper's numbers beside the measured ones: cells, verdicts, tables."""

from typing import Any

from safmn import lazy


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    return lazy.submodule(__name__, name)
