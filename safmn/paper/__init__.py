"""The paper itself: printed tables and logs, claims, verdict rules and statistics. No study is needed to read it."""

from pathlib import Path

NUMBERS = Path(__file__).parent / "numbers"
"""The paper's tables, the authors' logs and the claims, as data of this package."""
