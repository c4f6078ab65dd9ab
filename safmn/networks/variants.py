"""The variants of Tables 3 and 4 and of a user: one YAML file each in `ablations/`."""

import csv
import re
import sys
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from safmn import paths
from safmn.configuration import check, read_yaml, yaml_files
from safmn.errors import UserError, one_line
from safmn.networks.registry import Network, published_networks
from safmn.paper import NUMBERS
from safmn.schema import VariantFile

NAME = re.compile(r"[a-z][a-z0-9_]*")
CODE = "safmn.networks.safmn:SAFMN"
REFERENCE = "Sun et al., Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution, ICCV 2023"


@dataclass(frozen=True)
class Variant:
    """One switch setting of SAFMN.

    Attributes:
        network: how it is built, and the paper's rows that it stands for.
        switches: the arguments of `SAFMN` that it changes.
        training: the keys of a study's `training` that it changes.
        description: a sentence.
        file: its YAML file.
        beside: for a variant that is not in the paper, the variant after whose row it is shown; "" for none.
        data: the keys of a study's `data` that it changes.
    """

    network: Network
    switches: dict[str, Any]
    training: dict[str, Any]
    description: str
    file: Path
    beside: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def build(self, scale: int, **changes: Any) -> Any:
        """Build it with some of its switches changed."""
        return _build(self.file, self.switches | changes, scale)


def load(file: Path) -> Variant:
    """Read one variant without building it; UserError that names file and key where it is wrong."""
    name = file.stem
    if not NAME.fullmatch(name):
        raise UserError(f"{file}: a variant's name is its file's: lower-case letters, digits and _ only")
    content = check(VariantFile, read_yaml(file), file)
    rows = {int(table): str(row) for table, row in content.rows.items()}
    factory = partial(_build, file, content.network)
    network = Network(name, content.title, factory, (2, 3, 4), "RGB", rows, REFERENCE, CODE)
    return Variant(network, content.network, content.training, content.description, file, content.beside, content.data)


def _build(file: Path, switches: dict[str, Any], scale: int) -> Any:
    # Imported here, since listing variants needs no torch.
    from safmn.networks.safmn import SAFMN

    if str(file.parent) not in sys.path:  # a user's class may lie beside the variant that names it
        sys.path.append(str(file.parent))
    try:
        return SAFMN(scale, **switches)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{file}: the network cannot be built: {reason}") from error


def discover(folder: Path | None = None) -> dict[str, Variant]:
    """Return the variants of a folder, or of the paper and the user's project.

    The paper's come first, in the order of its tables. A variant that belongs beside another follows it.
    """
    folders = (folder,) if folder else (paths.ablations(), paths.own_ablations())
    return _discover(tuple(filter(None, folders)))


@cache
def _discover(folders: tuple[Path, ...]) -> dict[str, Variant]:
    found = [load(file) for folder in folders for file in yaml_files(folder)]
    first = {variant.network.name: variant.file for variant in reversed(found)}
    for variant in found:
        if variant.file != first[variant.network.name]:
            raise UserError(f"{variant.file}: a variant of the paper has this name: rename the file")
        if variant.network.name in published_networks():
            raise UserError(f"{variant.file}: a published network has this name: rename the file")
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
        return first, variant.beside != "", variant.network.name

    return {variant.network.name: variant for variant in sorted(found, key=place)}


def _printed_labels() -> list[tuple[int, str]]:
    """Return (table, row label) of Tables 3 and 4 in printed order."""
    labels = []
    for table, column in ((3, "variant"), (4, "n_blocks")):
        with open(NUMBERS / f"table{table}.csv", encoding="utf-8", newline="") as handle:
            labels += [(table, row[column]) for row in csv.DictReader(handle)]
    return labels
