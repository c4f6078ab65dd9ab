"""Where the project's own files are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "workflow" / "schemas"


def ablations() -> Path:
    """The folder of variants: the project's own, or the one that the environment variable SAFMN_ABLATIONS names."""
    return Path(os.environ.get("SAFMN_ABLATIONS") or ROOT / "ablations")


def reach_from_child_processes() -> None:
    """Makes `python -m safmn` in a child process mean this checkout, run by this Python or one that goes before it."""
    front = {"PATH": Path(sys.executable).parent, "PYTHONPATH": ROOT}
    for name, folder in front.items():
        os.environ[name] = os.pathsep.join(filter(None, [str(folder), os.environ.get(name)]))
