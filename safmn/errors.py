"""The one exception that is meant for the user."""


class UserError(Exception):
    """A mistake or an obstacle that the user can act on.

    The message is one line: what is wrong, where, and what to do. The command line prints it without a traceback and
    exits with 2.
    """
