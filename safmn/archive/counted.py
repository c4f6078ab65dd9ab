"""Step *counted*: parameters, FLOPs, activations and predicted memory, counted again; they must be equal."""

from collections.abc import Callable, Iterator
from typing import Any

from safmn import layout, networks
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, REFUTED, Finding
from safmn.archive.opening import Opened
from safmn.cost import complexity, memory
from safmn.errors import UserError, as_line
from safmn.report.costs import COUNTS


def listed(archive: Opened, chosen: set[str] | None = None) -> list[str]:
    """Return the networks whose counts are in an archive, the chosen ones only if there is a choice."""
    names = sorted(file.stem for file in archive.results.glob(layout.complexity("*")))
    return [name for name in names if chosen is None or name in chosen]


def check(
    archive: Opened,
    chosen: set[str] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Return what was found.

    Args:
        archive: the archive.
        chosen: names of networks; None for all.
        on_progress: called with (networks done, networks in all).
    """
    findings: list[Finding] = []
    names = listed(archive, chosen)
    for done, name in enumerate(names, 1):
        findings += _complexity(name, archive.record(layout.complexity(name)))
        on_progress(done, len(names))
    findings += _memory(archive.record(layout.cost("memory")), chosen)
    return findings or [Finding("counts", NOT_CHECKED, "the archive has none")]


def _complexity(name: str, record: dict[str, Any]) -> Iterator[Finding]:
    scales = record.get("scales")
    for scale, archived in scales.items() if isinstance(scales, dict) else ():
        what = f"{name} x{scale}"
        try:
            networks.info(name)
            ours = complexity.measure(name, int(scale))
            wrong = [
                f"{key} {archived.get(key)} archived, {ours[key]} now"
                for key in COUNTS
                if archived.get(key) != ours[key]
            ]
        except (UserError, ValueError) as error:
            yield Finding(what, NOT_CHECKED, as_line(error))
            continue
        except AttributeError:
            wrong = ["its record is damaged"]
        yield Finding(what, REFUTED if wrong else CONFIRMED, "; ".join(wrong) or "the same counts")


def _memory(record: dict[str, Any], chosen: set[str] | None) -> Iterator[Finding]:
    for name in record.get("networks") or ():
        if chosen is not None and name not in chosen:
            continue
        what = f"memory of {name}"
        try:
            settings = record["settings"]
            size = (int(settings["scale"]), int(settings["height"]), int(settings["width"]))
            wrong = []
            for form, archived in record["networks"][name]["predicted"].items():
                peak = memory.predict_details(name, *size, form)["peak"]
                if peak != archived["peak"]:
                    wrong.append(f"{archived['peak']} bytes archived, {peak} now ({form})")
        except UserError as error:
            yield Finding(what, NOT_CHECKED, as_line(error))
            continue
        except (KeyError, TypeError, ValueError, AttributeError):
            wrong = ["its record is damaged"]
        yield Finding(what, REFUTED if wrong else CONFIRMED, "; ".join(wrong) or "the same bytes, predicted")
