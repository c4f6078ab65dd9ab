"""`safmn list`: all networks that can be built by name."""

import argparse
from typing import Any

from safmn.commands import output
from safmn.errors import UserError, as_line

HELP = (
    "List every network that can be built by name: the variants in ablations/, then the published networks, with the "
    "rows of the paper's tables that they reproduce, their scales and their parameters (K, at each scale). What is not "
    'in "all" is trained or evaluated only by a study that names it.'
)
EXAMPLES = """examples:
  safmn list
  safmn list --json     a list of objects; params is scale -> exact number, empty where it cannot be built
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Build each network at each of its scales, to count its parameters, and print the list."""
    from math import prod

    from safmn import networks
    from safmn.cost import complexity
    from safmn.networks import variants
    from safmn.paper import verdicts

    variants.warn_of_refusals()
    rows: list[dict[str, Any]] = []
    for name, network in networks.all_networks().items():
        try:
            params = {
                str(scale): sum(prod(shape) for shape in complexity.parameters(networks.build(name, scale)).values())
                for scale in network.scales
            }
        except UserError as error:  # one mistake must not hide the names of all others
            output.warn("list", as_line(error))
            params = {}
        rows.append(
            {
                "name": name,
                "title": network.title,
                "rows": {str(table): label for table, label in sorted(network.rows.items())},
                "in_all": network.in_all,
                "scales": list(network.scales),
                "colour": network.colour,
                "params": params,
                "reference": network.reference,
            }
        )
    if args.json:
        output.print_json(rows)
        return
    lines = [
        [
            row["name"],
            row["title"],
            "; ".join(f"Table {table}: {label}" for table, label in row["rows"].items())
            or ("" if row["in_all"] else 'not in "all": a study names it'),
            " ".join(f"x{scale}" for scale in row["scales"]),
            " / ".join(f"{verdicts.rounded(value, 'K'):,}" for value in row["params"].values())
            or "cannot be built, see above",
        ]
        for row in rows
    ]
    output.print_table(["name", "title", "rows of the paper", "scales", "params [K]"], lines)
