"""The one exception that is meant for the user."""


class UserError(Exception):
    """A mistake or an obstacle that the user can act on.

    The message is one line: what is wrong, where, and what to do. The command line prints it without a traceback and
    exits with 2.
    """


def one_line(text: str) -> str:
    """Text as one line that is safe to print: runs of white space are one space, control characters are written out.

    A name may hold what a terminal obeys (ESC, C1) or hides (DEL); in a message and in a log it must be seen.
    """
    shown = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in " ".join(text.split()))
    return "".join(shown)
