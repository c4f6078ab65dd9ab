"""A network's counts held against the cells that the paper prints for it, before a GPU-hour is spent on it."""

from typing import Any

from safmn import networks
from safmn.cost import complexity, conventions
from safmn.errors import UserError
from safmn.networks.registry import Network
from safmn.paper import published, verdicts
from safmn.paper.published import PrintedCell
from safmn.paper.verdicts import Verdict


def judge(network: Network, wanted: list[int | str]) -> tuple[list[dict[str, Any]], list[tuple[PrintedCell, Verdict]]]:
    """The records of a network, one a scale, and (cell, verdict) for every printed count of its rows.

    `wanted` are scales, or "all". Each scale is traced once; other conventions are tried only where the print differs.
    """
    scales = [each for scale in wanted for each in (network.scales if scale == "all" else (scale,))]
    cells = [cell for cell in published.of(network) if cell.is_count]
    records, judged = [], []
    for scale in dict.fromkeys(scales):
        traced = complexity.trace(network.name, scale)
        record = complexity.record(traced)
        record["alternatives"] = conventions.alternatives(traced, cells)
        for cell in cells:
            if cell.scale == scale:
                others = record["alternatives"].get(cell.column, ())
                judged.append((cell, verdicts.count(cell.printed, cell.unit, record[cell.column], others)))
        records.append(record)
    return records, judged


def refusals(name: str, judged: list[tuple[PrintedCell, Verdict]]) -> list[str]:
    """A phrase for every cell that the counts contradict, naming table, row, column and both values."""
    return [
        f"{name} does not match {cell}: {verdict.note}" for cell, verdict in judged if verdict.verdict == "contradicted"
    ]


def refusal(phrases: list[str]) -> UserError:
    """The error that stops a network which is not the one its row describes."""
    return UserError("; ".join(phrases) + "; correct the network, or the row that it names")


def check(name: str, scale: int) -> None:
    """Raises UserError if the counts of a network at a scale contradict a printed cell of its rows."""
    network = networks.info(name)
    _, judged = judge(network, [scale])
    phrases = refusals(name, judged)
    if phrases:
        raise refusal(phrases)
