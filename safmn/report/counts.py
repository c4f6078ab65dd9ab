"""Compare a network's counts with the cells that the paper published for it, before a GPU-hour is spent on it."""

from typing import Any

from safmn import networks
from safmn.cost import complexity, conventions
from safmn.errors import UserError
from safmn.networks.registry import Network
from safmn.paper import published, verdicts
from safmn.paper.published import PrintedCell
from safmn.paper.verdicts import Verdict


def judge(network: Network, scales: list[int | str]) -> tuple[list[dict[str, Any]], list[tuple[PrintedCell, Verdict]]]:
    """Count a network and decide about every published count of its rows.

    Args:
        network: The network.
        scales: 2, 3, 4, or "all".

    Returns:
        One record a scale, and (cell, verdict) for every published count at these scales.
    """
    chosen = [at for scale in scales for at in (network.scales if isinstance(scale, str) else (scale,))]
    cells = [cell for cell in published.of(network) if cell.is_count]
    records, judged = [], []
    for scale in dict.fromkeys(chosen):
        traced = complexity.trace(network.name, scale)
        record: dict[str, Any] = complexity.record(traced)
        record["alternatives"] = conventions.alternatives(traced, cells)
        records.append(record)
        for cell in cells:
            if cell.scale == scale:
                others = record["alternatives"].get(cell.column, ())
                judged.append((cell, verdicts.count(cell.printed, cell.unit, record[cell.column], others)))
    return records, judged


def refusals(name: str, judged: list[tuple[PrintedCell, Verdict]]) -> list[str]:
    """Return a phrase for every cell that the counts contradict, with table, row, column and both values."""
    return [
        f"{name} does not match {cell}: {verdict.note}"
        for cell, verdict in judged
        if verdict.verdict == verdicts.CONTRADICTED
    ]


def refusal(phrases: list[str]) -> UserError:
    """Return the error for a network that is not the one that its row describes."""
    return UserError("; ".join(phrases) + "; correct the network, or the row that it names")


def check(name: str, scale: int) -> None:
    """Raise UserError if the counts of a network at a scale contradict a published cell of its rows."""
    _, judged = judge(networks.info(name), [scale])
    if phrases := refusals(name, judged):
        raise refusal(phrases)
