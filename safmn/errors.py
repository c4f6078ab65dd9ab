"""The exception that is meant for the user, exceptions as one line, and the nearest names for a mistyped one."""

import difflib
from collections.abc import Iterable

MAX_LENGTH = 300  # characters of another library's message


class UserError(Exception):
    """A mistake or an obstacle that the user can act on.

    The message is one line: what is wrong, where, and what to do. The command line prints it without a traceback and
    exits with 2.
    """


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean a, b?" with the known names nearest to `name`; `otherwise` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {', '.join(near)}?" if near else otherwise


def as_line(error: BaseException) -> str:
    """Return what an exception says, as one line that is safe to print.

    A `UserError` is its message; an error about a file names the file, the reason and what to do; any other exception
    is its type and the first line of its message, at most MAX_LENGTH characters.
    """
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{error.filename}: {error.strerror}; check it and its permissions")
    lines = str(error).strip().splitlines()
    return one_line(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)[:MAX_LENGTH]


def one_line(text: str) -> str:
    """Return text as one line that is safe to print: white space is one space, control characters are escaped.

    A name may contain what a terminal obeys (ESC, C1) or hides (DEL); in a message and in a log it must be visible.
    """
    shown = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in " ".join(text.split()))
    return "".join(shown)
