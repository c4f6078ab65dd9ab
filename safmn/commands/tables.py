"""`safmn tables`: the paper's tables with measured numbers beside the published ones."""

import argparse
from functools import partial

from safmn.commands import output, studies

HELP = """Render the paper's tables with a study's measured numbers: cells.csv, networks.csv,
tables/table{1,2,3,4,5}.{md,csv,tex}, tables/ablation.{md,csv,tex} (a row a variant), figures/*.{svg,png}, report.html
and provenance.json (what was made where, when and with which code and data), in the study's folder. Computes nothing
anew and works with an unfinished study; a missing cell says why. Prints the table of variants and what the study
says."""

EXAMPLES = """examples:
  safmn tables --study config/mini.yaml
  safmn tables --study results/t291/study.json --json
  safmn tables --study config/t291.yaml --results /scratch/t291

Units: params in K (1000), flops in G (10^9, one multiply-add is one), activations in M (10^6) at a 1280x720 output;
gpu_memory in MiB; runtime in ms; PSNR in dB on Y; SSIM without unit. delta is measured minus published. networks.csv, a
row for each network and scale: exact counts, memory in bytes, time in ms; blank where nothing was measured."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    studies.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the cells as JSON instead of the table")


def run(args: argparse.Namespace) -> None:
    """Join the study's results, write all files, print the table of variants or the cells."""
    from safmn import layout

    study, folder = studies.opened(args)  # a mistake is told before pandas and matplotlib are imported
    from safmn.report import answer, cells, origins, rendering, sentences
    from safmn.report.joined import Joined
    from safmn.report.rendered import render

    joined = Joined(study, folder)
    done = render(joined, before_page=partial(origins.write, study, folder))
    if args.json:
        record = {
            "study": study.name,
            "summary": {f"table{table.number}": table.summary for table in done.tables},
            "cells": [cells.for_json(cell) for cell in joined.cells],
        }
        output.print_json(record)
        return
    print(rendering.markdown(done.one))
    for beginning, text in answer.sentences(joined):
        print(beginning, text)
    for table in done.tables:
        print(f"Table {table.number}: {table.summary}")
    print(f"Claims: {sentences.summary(joined.claims)}")
    data = f"{folder}/{layout.CELLS}, {folder}/{layout.NETWORKS}"
    print(f"written: {data}, {folder}/tables/, {folder}/figures/, {done.page}, {folder}/{layout.PROVENANCE}")
