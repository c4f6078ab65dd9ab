"""The screen that tables are printed on."""

import sys

from rich.console import Console

WIDTH_OF_A_FILE = 140  # characters


def console() -> Console:
    """Return the terminal, or a file or pipe with a width that fits the tables. Text is printed without markup."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    return Console(width=width, highlight=False, markup=False, emoji=False)
