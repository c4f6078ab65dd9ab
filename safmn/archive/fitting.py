"""Where the code in another folder differs from the code here, piece by piece, among all that decides a result.

That code is read, never imported: its fingerprint is compared with that of the code here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safmn import networks, syntax
from safmn.errors import UserError, as_line
from safmn.fingerprint import Walk
from safmn.networks import variants
from safmn.networks.identity import modules
from safmn.training import own
from safmn.training.identity import FORMED, OF_LUMA, SEMANTIC, key_of


class _Elsewhere(syntax.Library):
    """Finds the project's modules, and a user's, in another folder than this one's.

    Args:
        root: the folder with `safmn/`.
        place: the folder below it for a user's modules.
        installed: as for `Library`.
    """

    def __init__(self, root: Path, place: str = "ablations", installed: bool = False) -> None:
        super().__init__(root / place, installed)
        self._root = root
        self._place = root / place

    def _find(self, name: str) -> Path | None:
        is_users = syntax.top(name) != syntax.PROJECT
        stem = (self._place if is_users else self._root).joinpath(*name.split("."))
        files = (stem / "__init__.py", stem.parent / f"{stem.name}.py")
        found = next((file for file in files if file.is_file()), None)
        return super()._find(name) if is_users and found is None else found


def of_stage(root: Path, names: Sequence[str], apart: Iterable[str] = ()) -> list[str]:
    """Return the pieces of code that differ among all that some functions use; empty for the same code.

    Args:
        root: a folder with the code `safmn/` and the variants `ablations/`.
        names: the functions, as "module:name". One that is not there differs.
        apart: modules that do not count, beside those of networks.
    """

    def pieces(library: syntax.Library) -> Mapping[str, str]:
        walk = Walk(library, apart={*modules(), *apart})
        for name in names:
            with suppress(UserError):
                walk.start(name)
        return walk.pieces

    return _differing(pieces, _Elsewhere(root), syntax.Library())


def of_network(root: Path, name: str) -> list[str]:
    """Return the pieces of code that differ among all that a network uses; empty for the same code."""
    network = networks.info(name)

    def pieces(library: syntax.Library) -> Mapping[str, str]:
        walk = Walk(library)
        walk.start(network.code, dict(network.arguments) if network.file else None)
        return walk.pieces

    here = syntax.Library(network.file.parent if network.file else None, installed=True)
    place = "networks" if network.file and name not in variants.discover() else "ablations"
    return _differing(pieces, _Elsewhere(root, place, installed=True), here)


def of_training(root: Path, specification: Mapping[str, Any]) -> list[str]:
    """Return the pieces of code that differ among all that a run uses; empty for the same code.

    Args:
        root: a folder with the code `safmn/` and the variants `ablations/`.
        specification: of the run.
    """
    settings = specification["training"]
    name = specification["network"]
    recipe = (*SEMANTIC, *((FORMED,) if "form" in settings else ()))
    recipe += OF_LUMA if networks.info(name).colour == "Y" else ()
    differing = {*of_network(root, name), *of_stage(root, recipe, {own.__name__})}
    for key, path in own.classes(settings).items():
        texts = [path, *own.texts(settings, key)]

        def pieces(library: syntax.Library, key: str = key, texts: list[str] = texts) -> Mapping[str, str]:
            walk = Walk(library)
            walk.follow_texts(key, texts)
            return walk.pieces

        top = syntax.top(path.partition(":")[0])
        is_in_config = any((root / "config" / name).exists() for name in (top, f"{top}.py"))
        there = _Elsewhere(root, "config" if is_in_config else "ablations", installed=True)
        differing.update(_differing(pieces, there, syntax.Library(own.beside(path), installed=True)))
    return sorted(differing)


def has_the_key_here(record: Mapping[str, Any]) -> bool:
    """Whether the key of a run, of specification, data and code, is the one that it would have here.

    Args:
        record: its `run.json`.
    """
    try:
        specification, digests = record["specification"], record["provenance"]["data"]
        data = [digests[text] for text in (*specification["train"], *specification["validation"])]
        return bool(record["key"] == key_of(specification, data))
    except (UserError, LookupError, TypeError, AttributeError):
        return False


def _differing(
    pieces: Callable[[syntax.Library], Mapping[str, str]], there: syntax.Library, here: syntax.Library
) -> list[str]:
    try:
        theirs = pieces(there)
    except UserError as error:
        return [as_line(error)]
    ours = pieces(here)
    names = [name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)]
    return sorted({_shown(name) for name in names})


def _shown(name: str) -> str:
    if name.startswith("file "):  # a data file, with its hash
        return name.rpartition(" ")[0]
    return f"{name}(on import)" if name.endswith(".") else name.removesuffix(" imports")
