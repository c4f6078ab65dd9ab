"""`safmn`: every stage of the workflow as a command.

`safmn COMMAND ... then COMMAND ...` runs several commands in one process, until one of them fails.

A command is a module of `safmn.commands` with `HELP`, `EXAMPLES`, `configure(parser)` and `run(args)`. It is imported
only when it is called, so that `safmn --help` does not wait for torch.
"""

import argparse
import importlib
import io
import keyword
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType

from safmn.errors import UserError, as_line, suggestion

_log = logging.getLogger(__name__)

COMMANDS = {
    "init": "a project of your own, whose variants stand beside the paper's",
    "doctor": "what this machine can do: torch, driver, GPUs, leases, disk, and what to do about it",
    "gpu-check": "check a GPU and measure what to choose on it, in a quarter of an hour",
    "list": "networks and variants that can be built, and the row of the paper each stands for",
    "complexity": "parameters, FLOPs and activations at a 1280x720 output, checked against the paper",
    "memory": "peak memory of inference and of a training step, predicted without a GPU or measured on one",
    "runtime": "inference time of networks, interleaved, with the spread",
    "operations": "time of the operations of Table 5 inside SAFMN",
    "resolve": "check a study and write it down with every default filled in",
    "pack": "decode a dataset once into a packed dataset (uint8), making LR images where they are missing",
    "manifest": "the digest of packed datasets' manifests, or what differs from somebody else's data",
    "trial": "try a study's own losses and optimisers on a small batch",
    "train": "train one network of a study, resuming what is there",
    "evaluate": "PSNR and SSIM on Y, image by image",
    "explain": "which single departure from the protocol gives a published number",
    "inspect": "attribution map, features and crops of one network: what Figures 2, 5 and 6 show",
    "upscale": "enlarge pictures with a trained network",
    "fetch": "download published weights and datasets, verified",
    "plan": "hours and disk that a study will need on this device",
    "status": "what of a study is done, running, failed or stale, and what it has cost",
    "tables": "render the paper's tables beside what was measured",
    "overview": "one page over all studies: the best evidence on each published cell",
    "archive": "a study with its workflow, results and provenance as an RO-Crate, to be kept or passed on",
    "compare": "two studies or archives: which cells differ, by how much, and what may explain it",
    "import": "the results of somebody else's archive, to go on from",
    "verify": "check somebody else's archive: files, tables, evaluations, counts, training",
}


def main(arguments: list[str] | None = None) -> int:
    """Run commands; return the exit status: 0 done, 1 broken pipe, 2 a mistake of the user's, 130 interrupted."""
    arguments = [_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe or terminal without Unicode gets \u2192 for an arrow
        sys.stdout.reconfigure(errors="backslashreplace")
    ends = [place for place, words in enumerate(pairwise(arguments)) if words[0] == "then" and words[1] in COMMANDS]
    for start, end in zip([0, *(place + 1 for place in ends)], [*ends, len(arguments)], strict=True):
        status = _run(arguments[start:end])
        if status:
            return status
    return 0


def _at_home(word: str) -> str:
    """Return a word of the command line with `~` as the home, which shells leave in `--out=~/file` and in quotes."""
    option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
    is_home = value == "~" or value.startswith("~/")
    return option + sign + os.path.expanduser(value) if is_home else word


def _run(arguments: list[str]) -> int:
    args = _parser(arguments).parse_args(arguments)
    with _logging(logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO):
        try:
            return args.run(args) or 0
        except KeyboardInterrupt:
            message, status = "interrupted", 130
        except BrokenPipeError:
            return 1
        except (UserError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:
                raise
            message, status = as_line(error), 2
            _log.debug("where it happened:", exc_info=True)
        print(f"safmn {args.command}: {message}", file=sys.stderr)
        return status


def command(name: str) -> ModuleType:
    """Import the module of a command: of `gpu-check` it is `gpu_check`, of `import`, a word of Python, `import_`."""
    module = name.replace("-", "_") + "_" * keyword.iskeyword(name)
    return importlib.import_module(f"safmn.commands.{module}")


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; only the command that is called has its own arguments."""
    parser = argparse.ArgumentParser(prog="safmn", description=(__doc__ or "").splitlines()[0])
    _add_amount(parser, default=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        parser.error(f"there is no command {chosen!r}: {suggestion(chosen, COMMANDS, '`safmn --help` lists all')}")
    for name, summary in COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary)
            continue
        module = command(name)
        subparser = commands.add_parser(
            name,
            help=summary,
            description=module.HELP,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_amount(subparser, default=argparse.SUPPRESS)  # keeps what stands before the command
        module.configure(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def _add_amount(parser: argparse.ArgumentParser, default: bool | str) -> None:
    """Add the options for how much is printed on stderr."""
    amount = parser.add_mutually_exclusive_group()
    for short, name, about in (
        ("-q", "--quiet", "no progress and no notes, only warnings"),
        ("-v", "--verbose", "more notes; of a mistake, where it happened"),
    ):
        amount.add_argument(short, name, action="store_true", default=default, help=about)


class _Stderr(logging.Handler):
    """Prints on what is `sys.stderr` at the time: a progress bar takes its place, to stay below what is printed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        print(self.format(record), file=sys.stderr, flush=True)


@contextmanager
def _logging(level: int) -> Iterator[None]:
    """Print what the package logs on stderr, from a level on."""
    package, handler = logging.getLogger("safmn"), _Stderr()
    package.addHandler(handler)
    package.setLevel(level)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
