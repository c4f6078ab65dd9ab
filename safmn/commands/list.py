"""`safmn list`: what can be built by name."""

import argparse

HELP = (
    "Lists every network that can be built by name: the variants in ablations/, then the published networks, with the "
    "rows of the paper's tables that they stand for, their scales and their parameters (K, at each scale)."
)
EXAMPLES = """examples:
  safmn list
  safmn list --json     a list of objects; params is scale -> exact number
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Builds each network at each of its scales to count its parameters; nothing is run."""
    import json
    from math import prod

    from tabulate import tabulate

    from safmn import networks
    from safmn.cost import complexity
    from safmn.paper import verdicts

    found = []
    for name, network in networks.all_networks().items():
        params = {
            str(scale): sum(prod(shape) for shape in complexity.parameters(networks.build(name, scale)).values())
            for scale in network.scales
        }
        found.append(
            {
                "name": name,
                "title": network.title,
                "rows": {str(table): label for table, label in sorted(network.rows.items())},
                "scales": list(network.scales),
                "colour": network.colour,
                "params": params,
                "reference": network.reference,
            }
        )
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    lines = [
        [
            each["name"],
            each["title"],
            "; ".join(f"Table {table}: {label}" for table, label in each["rows"].items()),
            " ".join(f"x{scale}" for scale in each["scales"]),
            " / ".join(f"{verdicts.rounded(value, 'K'):,}" for value in each["params"].values()),
        ]
        for each in found
    ]
    headers = ["name", "title", "rows of the paper", "scales", "params [K]"]
    print(tabulate(lines, headers, tablefmt="simple", disable_numparse=True))
