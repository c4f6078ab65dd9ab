"""`safmn tables`: the paper's tables beside what was measured."""

import argparse

from safmn.commands import studies

HELP = """Render the paper's tables beside what a study measured: cells.csv, tables/table{1,2,3,4,5}.{md,csv,tex},
figures/*.{svg,png}, report.html and provenance.json (what was made where, when and with which code and data), in the
study's folder. Computes nothing anew and works at any stage of a study; a missing cell says why. Prints Table 3."""

EXAMPLES = """examples:
  safmn tables --study config/mini.yaml
  safmn tables --study results/t291/study.json --json
  safmn tables --study config/t291.yaml --results /scratch/t291

Units: params in K (1000), flops in G (10^9, one multiply-add is one), activations in M (10^6) at a 1280x720 output;
gpu_memory in MiB; runtime in ms; PSNR in dB on Y; SSIM without unit. delta is measured minus published."""


def configure(parser: argparse.ArgumentParser) -> None:
    studies.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the cells as JSON instead of Table 3")


def run(args: argparse.Namespace) -> None:
    """Joins, writes, prints."""
    from safmn import layout
    from safmn.files import write_text
    from safmn.report import cells, figures, origins, page, rendering, sentences, tables

    study, folder = studies.opened(args)
    found = cells.collect(study, folder)
    cells.write(found, folder / layout.CELLS)
    rendered = tables.build_all(study, folder, found)
    for table in rendered:
        for form, render in (("md", rendering.markdown), ("tex", rendering.latex), ("csv", rendering.flat_csv)):
            write_text(folder / layout.table(table.number, form), render(table))
    figures.draw_all(study, folder, found)
    judged = sentences.write(folder, found)
    provenance = origins.write(study, folder)
    report = page.write(study, folder, found, rendered, judged)
    if args.json:
        print(_json(study.name, found, rendered))
        return
    print(rendering.markdown(rendered[2]))
    for table in rendered:
        print(f"Table {table.number}: {table.summary}")
    print(f"Claims: {sentences.summary(judged)}")
    print(f"written: {folder}/{layout.CELLS}, {folder}/tables/, {folder}/figures/, {report}, {provenance}")


def _json(name: str, found, rendered) -> str:
    import json
    import math

    from safmn.report.cells import FIELDS

    def plain(value):
        # JSON knows neither NaN nor an infinite PSNR.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    listed = [{column: plain(getattr(cell, each.name)) for column, each in FIELDS.items()} for cell in found]
    summary = {f"table{table.number}": table.summary for table in rendered}
    return json.dumps(
        {"study": name, "summary": summary, "cells": listed}, indent=2, ensure_ascii=False, allow_nan=False
    )
