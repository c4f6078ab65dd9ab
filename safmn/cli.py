"""`safmn`: every stage of the DAG as a command.

`safmn COMMAND ... then COMMAND ...` runs several in one process, which starts once, until one of them fails.

A command is a module of `safmn.commands` with `HELP`, `EXAMPLES`, `configure(parser)` and `run(args)`; it is imported
only when it is called, so that `safmn --help` does not wait for torch.
"""

import argparse
import importlib
import sys
from itertools import pairwise

from safmn.errors import UserError, one_line

COMMANDS = {
    "init": "a project of your own, whose variants stand beside the paper's",
    "list": "networks and variants that can be built, and the row of the paper each stands for",
    "complexity": "parameters, FLOPs and activations at a 1280x720 output, checked against the paper",
    "memory": "peak memory of inference and of a training step, predicted without a GPU or measured on one",
    "runtime": "inference time of networks, interleaved, with the spread",
    "operations": "time of the operations of Table 5 inside SAFMN",
    "resolve": "check a study and write it down with every default filled in",
    "pack": "decode a dataset once into a packed dataset (uint8), making LR images where they are missing",
    "manifest": "the digest of packed datasets' manifests, or what differs from somebody else's data",
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
}


def main(arguments: list[str] | None = None) -> int:
    """Runs commands; returns the exit status (0 done, 2 a mistake of the user's, 130 interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    ends = [place for place, words in enumerate(pairwise(arguments)) if words[0] == "then" and words[1] in COMMANDS]
    for start, end in zip([0, *(place + 1 for place in ends)], [*ends, len(arguments)], strict=True):
        status = _run(arguments[start:end])
        if status:
            return status
    return 0


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="safmn", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = importlib.import_module(f"safmn.commands.{name}")
            subparser = commands.add_parser(
                name,
                help=summary,
                description=module.HELP,
                epilog=module.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
        else:
            commands.add_parser(name, help=summary)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except UserError as error:
        # One line, whatever a path that is named in it holds.
        print(f"safmn {args.command}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"safmn {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}; check it and its permissions"
        print(f"safmn {args.command}: {one_line(message)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
