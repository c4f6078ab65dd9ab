"""Where the code in another folder differs from the code here, piece by piece, among all that decides a result.

That code is read, never imported: its fingerprint is compared with that of the code here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from safmn import networks, syntax
from safmn.errors import UserError, as_line
from safmn.files import digest
from safmn.fingerprint import Walk
from safmn.networks import variants
from safmn.networks.identity import apart
from safmn.training import identity, own


class _Elsewhere(syntax.Library):
    """Finds the project's modules, and a user's, in another folder than this one's.

    Args:
        root: the folder with `safmn/`.
        place: the folder below it for a user's modules.
        installed: as for `Library`.
    """

    def __init__(self, root: Path, place: str, installed: bool) -> None:
        super().__init__(root / place, installed)
        self._root = root
        self._place = root / place

    def _find(self, name: str) -> Path | None:
        is_users = syntax.top(name) != syntax.PROJECT
        stem = (self._place if is_users else self._root).joinpath(*name.split("."))
        files = (stem / "__init__.py", stem.parent / f"{stem.name}.py")
        found = next((file for file in files if file.is_file()), None)
        return super()._find(name) if is_users and found is None else found


class Code:
    """Follows the code in one folder. Each method raises UserError where a network or a class is not found.

    Args:
        root: the folder, with `safmn/` and a user's files in `ablations/`, `networks/` and `config/`; None for the code
            here.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self.functions = cache(self._functions)
        self.network = cache(self._network)
        self.own_class = cache(self._own_class)

    def _functions(self, names: tuple[str, ...], without: frozenset[str]) -> Walk:
        """Follow functions, as "module:name"; one that is not there is left out."""
        walk = Walk(_Elsewhere(self._root, "ablations", False) if self._root else syntax.Library(), without)
        for name in names:
            with suppress(UserError):
                walk.start(name)
        return walk

    def _network(self, name: str) -> Walk:
        network = networks.info(name)
        place = "networks" if network.file and name not in variants.discover() else "ablations"
        walk = Walk(self._users(network.file.parent if network.file else None, place))
        walk.start(network.code, dict(network.arguments) if network.file else None)
        return walk

    def _own_class(self, key: str, path: str, texts: tuple[str, ...]) -> Walk:
        first = syntax.top(path.partition(":")[0])
        places = [self._root / "config" / name for name in (first, f"{first}.py")] if self._root else []
        walk = Walk(self._users(own.beside(path), "config" if any(map(Path.exists, places)) else "ablations"))
        walk.follow_texts(key, [path, *texts])
        return walk

    def _users(self, folder: Path | None, place: str) -> syntax.Library:
        """Return the library of a user's modules, which lie in `folder` here and in `place` in another folder."""
        return _Elsewhere(self._root, place, True) if self._root else syntax.Library(folder, installed=True)


class Other:
    """The code in another folder, compared with that here.

    A method `of_...` returns the pieces of code that differ, as "module.name": none for the same code.

    Args:
        root: the folder, as for `Code`.
    """

    def __init__(self, root: Path | None) -> None:
        self._there, self._here = Code(root), Code()

    def of_functions(self, names: Sequence[str]) -> list[str]:
        """Compare all that some functions use. A function that is not there differs.

        Args:
            names: the functions, as "module:name".
        """
        return self._differing(lambda code: code.functions(tuple(names), apart()))

    def of_network(self, name: str) -> list[str]:
        """Compare all that a network uses."""
        return self._differing(lambda code: code.network(name))

    def of_training(self, specification: Mapping[str, Any]) -> list[str]:
        """Compare all that a run uses."""
        differing = identity.parts(
            specification["network"],
            specification["training"],
            lambda names: self._differing(lambda code: code.functions(names, identity.apart())),
            self.of_network,
            lambda *named: self._differing(lambda code: code.own_class(*named)),
        )
        return sorted({piece for part in differing for piece in part})

    def gives(self, record: Mapping[str, Any]) -> bool | None:
        """Return whether the key of a run is the one that the code there gives it; None if that is not known.

        It is not known where code of a user's own or of an installed package counts, of which an archive may hold
        another part than the machine that trained; nor if keys are made in another way there, or the network of that
        name is another here.

        Args:
            record: its `run.json`.
        """
        specification, without = record["specification"], identity.apart()
        variant, code = variants.discover().get(specification["network"]), self._there
        has_other_switches = specification.get("switches") != (variant.switches if variant else {})
        if has_other_switches or self.of_functions(["safmn.training.identity:key_of"]):
            return None
        try:
            walks = identity.parts(
                specification["network"],
                specification["training"],
                lambda names: code.functions(names, without),
                code.network,
                code.own_class,
            )
        except UserError:
            return None
        if any(walk.files or walk.packages for walk in walks):
            return None
        fingerprint = digest([walk.digest() for walk in walks])
        return bool(record["key"] == identity.key_of(specification, _data(record), fingerprint))

    def _differing(self, follow: Callable[[Code], Walk]) -> list[str]:
        try:
            theirs = follow(self._there).pieces
        except UserError as error:
            return [as_line(error)]
        ours = follow(self._here).pieces
        return sorted({_shown(name) for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)})


def has_the_key_here(record: Mapping[str, Any]) -> bool:
    """Whether the key of a run, of specification, data and code, is the one that it would have here.

    Args:
        record: its `run.json`.
    """
    try:
        return bool(record["key"] == identity.key_of(record["specification"], _data(record)))
    except (UserError, LookupError, TypeError, AttributeError):
        return False


def _data(record: Mapping[str, Any]) -> list[str]:
    """Return the digests of the images of a run, in the order in which its key has them."""
    specification, digests = record["specification"], record["provenance"]["data"]
    return [digests[text] for text in (*specification["train"], *specification["validation"])]


def _shown(name: str) -> str:
    if name.startswith("file "):  # a data file, with its hash
        return name.rpartition(" ")[0]
    return f"{name}(on import)" if name.endswith(".") else name.removesuffix(" imports")
