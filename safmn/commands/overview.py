"""`safmn overview`: one page over all studies."""

import argparse
from pathlib import Path

from safmn.commands import output

HELP = """Show for each published cell of the paper the best evidence that any study has, with its study, device, budget
and verdict: OUT.md, OUT.html and OUT.csv. A comparable number comes before one that is not comparable, and a
contradiction is never hidden by another study. Reads cells.csv and study.json of each folder; computes nothing anew."""

EXAMPLES = """examples:
  safmn overview results/*
  safmn overview results/mini results/t291 --out /tmp/overview
  safmn overview results/* --json

Units as in cells.csv: params in K (1000), flops in G (10^9), activations in M (10^6), gpu_memory in MiB, runtime in ms,
PSNR in dB on Y, SSIM without unit."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="RESULTS", help="folders of studies, results/<study>")
    parser.add_argument(
        "--out", type=Path, default=Path("results/overview"), metavar="STEM", help="default: results/overview"
    )
    parser.add_argument("--json", action="store_true", help="print the cells as JSON as well")


def run(args: argparse.Namespace) -> None:
    """Choose the evidence, write the three files, print the counts."""
    from safmn.report import overview

    folders = [folder for folder in args.folders if not folder.is_file()]  # `results/*` names this command's files, too
    evidence = overview.write(folders, args.out)
    if args.json:
        output.print_json(overview.for_json(evidence))
        return
    print(overview.counts(evidence).to_markdown())
    print(overview.summary(evidence))
    print(f"written: {args.out}.md, {args.out}.html, {args.out}.csv")
