"""Where the project's own files are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "workflow" / "schemas"
PUBLISHED = ROOT / "results" / "published"


def ablations() -> Path:
    """The folder of variants: the project's own, or the one that the environment variable SAFMN_ABLATIONS names."""
    return Path(os.environ.get("SAFMN_ABLATIONS") or ROOT / "ablations")
