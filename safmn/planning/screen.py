"""Where tables are printed."""

import sys

from rich.console import Console

WIDTH_OF_A_FILE = 140  # characters


def console() -> Console:
    """The terminal in its own width; a file or pipe in one that fits the tables. Text is printed as it is."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    return Console(width=width, highlight=False, markup=False, emoji=False)
