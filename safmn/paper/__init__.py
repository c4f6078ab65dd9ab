"""The paper itself: published tables and logs, claims, rules for verdicts, and statistics. It needs no study."""

from pathlib import Path

NUMBERS = Path(__file__).parent / "numbers"
"""The paper's tables and the authors' logs, as data of this package."""
