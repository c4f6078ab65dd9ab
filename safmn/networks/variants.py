"""The variants of Tables 3 and 4 and of a user: one YAML file each in `ablations/`, or one for a whole sweep."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safmn import paths
from safmn.configuration import as_plain, check, read_yaml, yaml_files
from safmn.errors import UserError
from safmn.networks import own, sweeps
from safmn.networks.registry import NAME, RETRAINED, SAFMN, Network, published_networks
from safmn.paper import NUMBERS
from safmn.schema import VariantFile

_log = logging.getLogger(__name__)

REFERENCE = "Sun et al., Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution, ICCV 2023"


@dataclass(frozen=True)
class Variant:
    """One switch setting of SAFMN, or a network of a user's own, and how it is trained.

    Attributes:
        network: how it is built, and the paper's rows that it stands for.
        switches: the file's section `network`: the arguments of `SAFMN` that it changes, or `class` and `args`.
        training: the keys of a study's `training` that it changes.
        data: the keys of a study's `data` that it changes.
        description: a sentence.
        file: its YAML file.
        beside: for a variant that is not in the paper, the variant after whose row it is shown; "" for none.
        scales: the scales that it is trained at; None for x4 alone, as the paper's ablations.
        sweep: the name of the sweep that it is a point of; "" for none.
        point: the values of the sweep's keys.
    """

    network: Network
    switches: dict[str, Any]
    training: dict[str, Any]
    data: dict[str, Any]
    description: str
    file: Path
    beside: str
    scales: tuple[int, ...] | None
    sweep: str
    point: Mapping[str, Any]


def load(file: Path) -> Variant:
    """Read one variant that is no sweep without building it; UserError that names file and key where it is wrong."""
    (variant,) = load_all(file)
    return variant


def load_all(file: Path) -> list[Variant]:
    """Read the variant of a file, or the points of a sweep; UserError that names file and key where it is wrong."""
    name = file.stem
    if not NAME.fullmatch(name):
        raise UserError(f"{file}: a variant's name is its file's: lower-case letters, digits and _ only")
    content = check(VariantFile, read_yaml(file), file)
    if content.colour == "Y" and "class" not in content.network:
        raise UserError(f"{file}: colour: SAFMN takes RGB; Y is for a class of your own (network.class)")
    if content.sweep is None:
        return [_variant(file, name, content)]
    if content.rows:
        raise UserError(f"{file}: rows: the points of a sweep stand for no row of the paper: leave one of the two out")

    def checked(changed: Any, key: str) -> dict[str, Any]:
        return as_plain(check(VariantFile, changed, f"{file}: sweep of {key}"), only_given=True)

    plain = {key: value for key, value in as_plain(content, only_given=True).items() if key != "sweep"}
    found = []
    for point in sweeps.points(file, plain, content.sweep, checked):
        changed = {key: point.content.get(key, {}) for key in sweeps.SECTIONS}
        changed |= {"title": point.title, "description": point.description}
        found.append(_variant(file, point.name, content.model_copy(update=changed), name, point.values))
    return found


def _variant(
    file: Path, name: str, content: VariantFile, sweep: str = "", point: Mapping[str, Any] = MappingProxyType({})
) -> Variant:
    switches = content.network
    is_own = "class" in switches
    network = Network(
        name,
        content.title,
        partial(_build, file, switches),
        scales=content.scales or (2, 3, 4),
        colour=content.colour,
        rows={int(table): str(row) for table, row in content.rows.items()},
        reference="" if is_own else REFERENCE,
        code=switches["class"] if is_own else SAFMN,
        arguments=switches.get("args", {}) if is_own else switches,
        file=file,
        in_all=content.in_all,
    )
    return Variant(
        network,
        switches,
        content.training,
        content.data,
        content.description,
        file,
        content.beside,
        content.scales,
        sweep,
        point,
    )


def _build(file: Path, switches: dict[str, Any], scale: int) -> Any:
    if "class" in switches:
        return own.build(file, switches["class"], switches.get("args", {}), scale)
    # Imported here, since listing variants needs no torch.
    from safmn.networks import safmn

    with own.building(file):
        network = safmn.SAFMN(scale, **switches)
    with own.building(file):  # anew: a class may have changed the current folder
        for value in switches.values():
            if isinstance(value, str) and ":" in value:
                own.check_not_hidden(value, file.parent)
    return network


def swept(found: Mapping[str, Variant]) -> dict[str, list[str]]:
    """Return the sweeps among some variants: name -> names of their points."""
    grouped: dict[str, list[str]] = {}
    for name, variant in found.items():
        if variant.sweep:
            grouped.setdefault(variant.sweep, []).append(name)
    return grouped


def discover(folder: Path | None = None) -> dict[str, Variant]:
    """Return the variants of a folder, or of the paper and the user's project.

    The paper's come first, in the order of its tables. A variant that belongs beside another follows it. A file that
    cannot be used stops nothing else: it is left out with a warning, see `refusal`.

    Args:
        folder: of variants that must all be usable; None for those of the paper and the project.
    """
    return _discover((folder,))[0] if folder else _discover(_folders(), lenient=True)[0]


def reread() -> None:
    """Forget the files of variants and networks, since others are there now."""
    _discover.cache_clear()
    own._networks.cache_clear()


def warn_of_refusals() -> None:
    """Log once why each file is left out that cannot be used."""
    _warn_of_refusals(_folders())


@cache
def _warn_of_refusals(folders: tuple[Path, ...]) -> None:
    for error in _discover(folders, lenient=True)[1].values():
        _log.warning("left out: %s", error)


def refusal(name: str) -> UserError | None:
    """Return why the file of this name is left out; None if there is none, or it is fine."""
    return _discover(_folders(), lenient=True)[1].get(name)


def _folders() -> tuple[Path, ...]:
    return tuple(filter(None, (paths.ablations(), paths.own_ablations())))


@cache
def _discover(folders: tuple[Path, ...], lenient: bool = False) -> tuple[dict[str, Variant], dict[str, UserError]]:
    files = [file for folder in folders for file in yaml_files(folder)]
    found: list[Variant] = []
    refused: dict[str, UserError] = {}
    for file in files:
        try:
            found += load_all(file)
        except UserError as error:
            if not lenient:
                raise
            refused[file.stem] = error
    taken = dict.fromkeys(published_networks(), "a published network")
    taken |= {f"{name}{RETRAINED}": "a published network that is trained here" for name in published_networks()}
    names: dict[str, Path] = {}
    for name, file, is_point in (
        *((file.stem, file, False) for file in files),
        *((variant.network.name, variant.file, True) for variant in found if variant.sweep),
    ):
        point = f"its sweep gives {name}, and " if is_point else ""
        if name in taken:
            raise UserError(f"{file}: {point}{taken[name]} has this name: rename the file")
        other = names.setdefault(name, file)
        if other != file:
            whose = "a variant of the paper" if other.parent == folders[0] != file.parent else other.name
            raise UserError(f"{file}: {point}{whose} has this name: rename the file")
    order = {label: place for place, label in enumerate(_printed_labels())}
    by_name = {variant.network.name: variant for variant in found}
    for variant in found:
        if variant.beside and (variant.network.rows or not by_name.get(variant.beside, variant).network.rows):
            raise UserError(
                f"{variant.file}: beside: {variant.beside!r} must be another variant here that stands for a row of the "
                "paper, and this one for none"
            )

    def place(variant: Variant) -> tuple[int, bool, str]:
        rows = by_name.get(variant.beside, variant).network.rows
        first = min((order.get((table, label), len(order)) for table, label in rows.items()), default=len(order))
        return first, variant.beside != "", variant.sweep or variant.network.name  # points stay in their order

    return {variant.network.name: variant for variant in sorted(found, key=place)}, refused


def _printed_labels() -> list[tuple[int, str]]:
    """Return (table, row label) of Tables 3 and 4 in printed order."""
    labels = []
    for table, column in ((3, "variant"), (4, "n_blocks")):
        with open(NUMBERS / f"table{table}.csv", encoding="utf-8", newline="") as handle:
            labels += [(table, row[column]) for row in csv.DictReader(handle)]
    return labels
