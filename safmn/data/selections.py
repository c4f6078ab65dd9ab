"""What a study calls a dataset ("BSDS200[10:]") -> the packed images, packing them first if nobody has."""

from pathlib import Path

import filelock

from safmn.data import packed, sources
from safmn.data.packed import PackedPairs


def open_packed(
    text: str, scale: int, packs: Path, root: str | None = None, folders: dict[str, str] | None = None
) -> PackedPairs:
    """Opens `packs`/<dataset>/x<scale> and selects the images that `text` means.

    Args:
        text: a dataset's name with an optional slice.
        scale: HR size / LR size.
        packs: the folder of packed datasets; the DAG's is results/<study>/data.
        root, folders: where the images are if they must be packed first, see `sources.locate`.

    Raises:
        UserError: the dataset is neither packed nor found, or the slice selects nothing.
    """
    name, part = sources.parse_selection(text)
    store = packs / name / f"x{scale}"
    if not (store / packed.INDEX).is_file():
        store.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(store.parent / f"x{scale}.lock"):  # several runs may start at once
            if not (store / packed.INDEX).is_file():
                packed.pack(name, root, scale, store, folders)
    return PackedPairs(store).select(part)
