"""What can be wrong with a study before any job starts. Imports no torch."""

import re
from collections.abc import Iterable
from pathlib import Path

from safmn import layout
from safmn.data import sources
from safmn.errors import UserError, suggestion
from safmn.networks import variants
from safmn.networks.registry import published_networks
from safmn.study import OVERRIDES, Study

WITHOUT_IMAGES = {
    *("fetch", "fetch_weights", "overview", "complexity", "memory", "runtime", "operations"),  # targets
    *("--list", "-l", "--list-rules", "--list-targets", "--lt", "--lint", "--unlock", "--report", "--touch", "-t"),
    *("--cleanup-metadata", "--cm", "--summary", "-S", "--detailed-summary", "-D", "--delete-all-output"),
    *("--list-input-changes", "--list-params-changes", "--list-code-changes", "--containerize", "--archive"),
}
"""The words of a command line of Snakemake that ask for something that reads no image."""

MAX_NAMED = 3  # variants that one line names


def check_targets(words: Iterable[str], names: Iterable[str]) -> None:
    """Refuse a target such as `train_no_mf`.

    Args:
        words: the command line; a Snakefile does not know the targets.
        names: of the targets, without `train_`.

    Raises:
        UserError: one line with the nearest names.
    """
    known = [f"train_{name}" for name in names]
    for word in words:
        if re.fullmatch("train_[a-z0-9_]+", word) and word not in known:
            name = word.removeprefix("train_")
            if name in published_networks():
                raise UserError(f"there is no target {word}: to train {name} here, name it in the study's `retrain`")
            raise UserError(f"there is no target {word}: {suggestion(word, known, '`snakemake --list` shows all')}")


def not_overridden(study: Study, words: Iterable[str]) -> list[str]:
    """Return which variants keep values of their own that `--config` gives for the study, a sentence each.

    Args:
        study: the study.
        words: those of `--config`.
    """
    found, sentences = variants.discover(), []
    for word in words:
        section, key = OVERRIDES.get(word, ("", ""))
        names = [name for name in study.variants if study.training and key in found[name].training]
        if section == "training" and names:
            shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else "")
            sentences.append(
                f"--config {word} does not change {shown}, whose files say {key} themselves: edit these, or leave the "
                "variants out with --config variants=NAME,..."
            )
    return sentences


def check_data(study: Study, words: Iterable[str] = ()) -> None:
    """Refuse a study whose images cannot be found and are not downloaded by it.

    Args:
        study: the study.
        words: the command line. Nothing is checked if it asks for a file of the results, which its own job does.

    Raises:
        UserError: one line that says which datasets are missing, where they were searched, and how to get them.
    """
    if any(word in WITHOUT_IMAGES or word.startswith(f"{study.results}/") for word in words):
        return
    if study.weights.root and not Path(study.weights.root).is_dir():
        raise UserError(
            f"{study.where}: weights.root: {study.weights.root} is not a folder: correct it, or name another with "
            "`--config weights_root=FOLDER`"
        )
    fetched = {name for datasets in study.to_fetch().values() for name in datasets}
    missing: dict[str, str] = {}
    for name, scale in study.packed_datasets():
        packed = study.results / layout.packed(name, scale) / layout.PIXELS
        if name in fetched or packed.exists() or not sources.can_be_expected(name, study.roots, study.data.folders):
            continue
        try:
            sources.select(name, scale, study.roots, study.data.folders)
        except UserError as error:
            missing.setdefault(name, str(error))
    if not missing:
        return
    names, reason = ", ".join(missing), next(iter(missing.values()))
    root = study.data.root
    if root is None:
        what = f"data: {names}: not here, and data.root names no folder"
    elif not Path(root).is_dir():
        what = f"data.root: {root} is not a folder; it should hold {names}"
    elif len(missing) == 1:
        raise UserError(f"{study.where}: data: {reason}")
    else:
        what = f"data: {names} are missing or not usable in {root}; the first: {reason}"
    raise UserError(
        f"{study.where}: {what}: `--config data_root=FOLDER` says where they are, `--config data_download=FOLDER` "
        "downloads what is public"
    )
