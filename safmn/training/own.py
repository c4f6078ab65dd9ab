"""Classes of a user's own that a study or a variant names, `module:Class`: losses and optimisers. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safmn import fingerprint, paths
from safmn.errors import UserError
from safmn.networks.own import imported
from safmn.schema import PAPER


def classes(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> `module:Class` of the user's classes in the `training` section of a specification."""
    named = {
        "loss": settings.get("loss", PAPER["loss"]),
        "optimiser": settings.get("optimiser", PAPER["optimiser"])["name"],
    }
    return {key: name for key, name in named.items() if ":" in name}


def texts(settings: Mapping[str, Any], key: str) -> list[str]:
    """Return the texts among the arguments of the user's class that a key of `training` names; they may name more."""
    return list(fingerprint.strings(settings["optimiser"])) if key == "optimiser" else []


def load(path: str, key: str) -> Any:
    """Import a class; its module may lie beside the variants or studies, in the current folder, or be installed.

    Args:
        path: "module:Class".
        key: the key of `training` that names it, for messages.

    Raises:
        UserError: it cannot be imported, or Python takes another module of this name.
    """
    try:
        found = imported(path, beside(path))
    except UserError as error:
        raise UserError(f"training.{key}: {error}") from error
    if not isinstance(found, type):
        raise UserError(f"training.{key}: {path!r} is not a class")
    return found


def beside(path: str) -> Path | None:
    """Return the folder where the module of "module:Class" lies if Python does not find it without that."""
    top = path.partition(":")[0].partition(".")[0]
    return next((place for place in _folders() if (place / f"{top}.py").is_file() or (place / top).is_dir()), None)


def _folders() -> list[Path]:
    studies = (paths.project() or paths.ROOT) / "config"
    return [place for place in (paths.own_ablations(), paths.ablations(), studies, Path.cwd()) if place]
