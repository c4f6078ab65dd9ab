"""A reproducibility harness for SAFMN (Sun et al., ICCV 2023): train, count, measure, evaluate, compare.

`import safmn` is enough for a notebook: `safmn.networks.build`, `safmn.cost.complexity.measure`,
`safmn.quality.evaluate` and `safmn.report.frames` are imported when they are first used.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    # Imported here: what a package does on import is part of the fingerprint of every network.
    from safmn.lazy import submodule

    return submodule(__name__, name)
