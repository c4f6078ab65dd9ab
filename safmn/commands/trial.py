"""`safmn trial`: try what is a user's own in a study's training."""

import argparse
import json
from typing import Any

from safmn.errors import UserError, suggestion

HELP = """Try the losses and optimisers of your own in a study, once each on a small batch: what they return, whether
a step changes the weights, and whether a run can be resumed from their saved state. `safmn train` and `snakemake` do
so by themselves, before anything is trained."""

EXAMPLES = """examples:
  safmn trial --study config/mine.yaml
  safmn trial charbonnier --study config/mine.yaml"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="variants of the study (default: all of them)")
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, e.g. config/mini.yaml")


def run(args: argparse.Namespace) -> None:
    """Try each combination once, and say how many there were."""
    from functools import partial

    from safmn import networks
    from safmn.study import Study
    from safmn.training import own

    study = Study.load(args.study)
    if unknown := [name for name in args.names if not study.runs(name)]:
        hint = suggestion(unknown[0], study.trained, f"`safmn resolve {args.study}` shows them")
        raise UserError(f"{study.name} does not train {unknown[0]!r}: {hint}")
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    for run in [run for name in args.names for run in study.runs(name)] or study.runs():
        specification = study.specification(run)
        settings = specification["training"]
        keys = ("loss", "optimiser", "weight_decay", "precision", "patch")
        if own.classes(settings):
            known.setdefault(
                json.dumps([run.scale, networks.info(run.variant).channels, [settings.get(key) for key in keys]]),
                (run.variant, specification),
            )
    for name, specification in known.values():
        from safmn.training import trial  # imports torch, which a study without such classes does not need

        trial.check(specification, partial(study.where_trained, name))
    if not known:
        print("no variant here has a loss or an optimiser of your own: nothing to try")
        return
    tried = ", ".join(name for name, _ in list(known.values())[:5]) + (", ..." if len(known) > 5 else "")
    print(f"losses and optimisers of your own work on a small batch: {len(known)} tried, of {tried}")
