"""`safmn fetch`: download and verify published weights and datasets."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from safmn.commands import output
from safmn.data import catalogue, sources
from safmn.data.catalogue import HR
from safmn.data.download import checksums
from safmn.data.fetching import Fetcher, Task
from safmn.data.remote import Corrections, Remote, corrections
from safmn.errors import UserError, suggestion
from safmn.files import write_json
from safmn.networks import names as network_names
from safmn.networks import published_weights

HELP = """Download published weights and datasets with curl. Downloads are verified, resumed where they were cut off,
and get their final name only when complete. Checksums that nobody published are recorded in checksums.json when first
seen, and compared later. Files that are already there are verified (weights) or used (images), never replaced."""

EXAMPLES = """examples:
  safmn fetch --list                              what can be fetched, sizes in MB (10^6 bytes)
  safmn fetch imdn pan --scale 4 --to weights     IMDN_x4.pth and PANx4_DF2K.pth
  safmn fetch --weights --to weights              every network's published weights
  safmn fetch benchmark --to data                 Set5, Set14, B100, Urban100
  safmn fetch DF2K DIV2K_val --scale 4 --to data  what the paper trains and validates on, LR at x4
  safmn fetch DIV2K --hr-only --to data           LR images are then made from HR, bit for bit as MATLAB does
  safmn fetch Set5 --to data --base-url http://mirror.example:8000

DIR is what a study names as `weights.root` or `data_root`. Datasets are unpacked into the layout of their publishers,
e.g. DIR/benchmark/Set5/HR; archives that you already have are taken from DIR/archives. Manga109 may not be
redistributed: `safmn fetch Manga109 --to data` says how to get it.

environment:
  SAFMN_MIRROR       as --base-url
  SAFMN_CORRECTIONS  as --corrections
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks and datasets, see --list")
    parser.add_argument("--to", metavar="DIR", help="folder for weights, or that holds datasets; made if missing")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--weights", action="store_true", help="weights only; all of them where no NAME is given")
    kind.add_argument("--data", action="store_true", help="datasets only; all of them where no NAME is given")
    parser.add_argument(
        "--scale", type=int, action="append", choices=(2, 3, 4), help="only this scale; may be repeated; default: all"
    )
    parser.add_argument("--hr-only", action="store_true", help="leave out LR images of datasets")
    parser.add_argument("--base-url", metavar="URL", help="takes the place of scheme and host of every source")
    parser.add_argument(
        "--corrections",
        metavar="FILE",
        help='JSON for mirrors with other files: {"files": {"x.zip": {"size": BYTES, "sha256": HEX}}, '
        '"images": {"DIV2K": COUNT}}',
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="downloads at once (default: 4)")
    parser.add_argument(
        "--attempts",
        type=int,
        default=5,
        metavar="N",
        help="attempts in a row without a new byte, for each URL (default: 5)",
    )
    parser.add_argument("--keep-archives", action="store_true", help="keep DIR/archives after unpacking")
    parser.add_argument(
        "--room-for",
        nargs="+",
        default=[],
        metavar="DATASET",
        help="start only if the disk has room for these as well, which others fetch into DIR meanwhile",
    )
    parser.add_argument(
        "--record",
        metavar="FOLDER",
        help="write FOLDER/DATASET_xSCALE.json for each dataset and scale, once all are complete",
    )
    parser.add_argument("--list", action="store_true", help="list what can be fetched, and why the rest cannot")
    parser.add_argument("--json", action="store_true", help="print the result, or the list, as JSON (sizes in bytes)")


def run(args: argparse.Namespace) -> None:
    """Fetch, and print what is there afterwards."""
    facts = corrections(args.base_url, args.corrections)
    if args.list:
        entries = listing(facts)
        output.print_json(entries) if args.json else _print_list(entries)
        return
    if args.to is None:
        raise UserError("--to is missing: give the folder for weights or datasets, or --list")
    if args.jobs < 1 or args.attempts < 1:
        raise UserError("--jobs and --attempts must be 1 or more")
    networks, datasets = resolve(args.names, args.weights, args.data)
    report = _fetch(args, networks, datasets, facts)
    if args.record and not report["failed"]:
        _record(Path(args.record), report["datasets"], sorted(set(args.scale or (2, 3, 4))), Path(args.to))
    if args.json:
        output.print_json(report)
    else:
        _print(report)
    if report["failed"]:
        first, *others = report["failed"]
        for failure in () if args.json else others:
            print(f"safmn fetch: {failure['reason']}", file=sys.stderr)
        raise UserError(first["reason"] + (f" (and {len(others)} more)" if others and args.json else ""))


def resolve(names: list[str], weights: bool, data: bool) -> tuple[list[str], list[str]]:
    """Split names (in any case) into networks and datasets, with groups replaced by their members.

    Raises:
        UserError: no name at all, an unknown one, or one without anything to download.
    """
    published = dict.fromkeys(file.network for file in published_weights.every())
    if not names and not (weights or data):
        raise UserError("nothing is asked for: name networks or datasets, or give --weights, --data or --list")
    if not names:
        return (list(published), []) if weights else ([], catalogue.downloadable())
    all_networks = {name.casefold(): name for name in (*published, *published_weights.WITHOUT, "bicubic")}
    all_datasets = {name.casefold(): name for name in (*catalogue.GROUPS, *sources.DATASETS, "photographs")}
    networks: list[str] = []
    datasets: list[str] = []
    for name in names:
        network, dataset = all_networks.get(name.casefold()), all_datasets.get(name.casefold())
        if network and data:
            raise UserError(f"{network} is no dataset: leave out --data")
        if dataset and weights:
            raise UserError(f"{dataset} is no network: leave out --weights")
        if network:
            networks.append(network)
        elif dataset:
            datasets.extend(catalogue.GROUPS.get(dataset, (dataset,)))
        else:
            raise UserError(_unknown(name, [*all_datasets.values(), *published]))
    return list(dict.fromkeys(networks)), list(dict.fromkeys(datasets))


def listing(facts: Corrections) -> list[dict[str, Any]]:
    """Return one entry for each file, and for each name that cannot be downloaded; keys as `--list --json` prints."""

    def entry(kind: str, name: str, scales: list[int], remote: Remote, size: int | None, **more: Any) -> dict[str, Any]:
        remote = facts.apply(remote)
        return {
            "kind": kind,
            "name": name,
            "scales": scales,
            "file": remote.name,
            "bytes": remote.size if remote.size is not None else size,
            "approximate": remote.size is None,
            "checksum": "sha256" if remote.sha256 else "md5" if remote.md5 else "first seen",
            "urls": list(remote.urls),
            **more,
        }

    entries = [
        entry("weights", file.network, list(file.scales), file.remote, None, licence=file.licence, remark=file.loads)
        for file in published_weights.every()
    ]
    for name in catalogue.downloadable():
        for archive in catalogue.ARCHIVES:
            if kinds := archive.kinds(name):
                scales = [kind for kind in kinds if kind != HR]
                more = {"licence": archive.licence, "remark": archive.remark, "hr": HR in kinds}
                entries.append(entry("data", name, scales, archive.remote, archive.about, **more))
    reasons = [("weights", name, reason) for name, reason in published_weights.WITHOUT.items()]
    reasons += [
        ("data", name, catalogue.why_not(name)) for name in sources.DATASETS if name not in catalogue.downloadable()
    ]
    return entries + [{"kind": kind, "name": name, "file": None, "remark": reason} for kind, name, reason in reasons]


def _fetch(args: argparse.Namespace, networks: list[str], datasets: list[str], facts: Corrections) -> dict[str, Any]:
    """Fetch, and return what `--json` prints."""
    scales = set(args.scale or (2, 3, 4))
    root = Path(args.to).expanduser()
    fetcher = Fetcher(root, facts, args.attempts, args.jobs, args.keep_archives)
    files = _files(networks, scales, bool(args.scale))
    for name in datasets:
        if name not in catalogue.FOLDERS and name != "photographs":
            try:
                sources.locate(name, root)
            except UserError:
                raise UserError(f"{name} cannot be downloaded by `safmn fetch`: {catalogue.why_not(name)}") from None
    others = resolve(args.room_for, False, True)[1] if args.room_for else []
    available = [name for name in datasets if name in catalogue.FOLDERS]
    tasks = fetcher.run(
        available,
        {HR} if args.hr_only else {HR, *scales},
        files,
        [name for name in others if name in catalogue.FOLDERS],
    )
    return {
        "files": [
            {
                "name": task.remote.name,
                "path": str(task.path),
                "bytes": task.path.stat().st_size,
                "sha256": checksums(task.path)["sha256"],
            }
            for task in tasks
            if task.archive is None and task.path is not None
        ],
        "datasets": [entry for name in available if (entry := _dataset(fetcher, name))]
        + [{"name": name} for name in datasets if name not in available],
        "failed": [
            {"name": task.remote.name, "reason": str(task.problem)}
            for task in tasks
            if task.problem is not None and not _replaced(task, fetcher)
        ],
    }


def _files(networks: list[str], scales: set[int], scales_named: bool) -> list[Remote]:
    """Return the files to download; raise UserError for a network without any, or without one at a named scale."""
    files: dict[str, Remote] = {}
    for network in networks:
        weights = {scale: published_weights.find(network, scale) for scale in sorted(scales)}
        absent = [scale for scale, file in weights.items() if file is None]
        if absent and (scales_named or len(absent) == len(weights)):
            raise UserError(f"no weights of {network} x{absent[0]}: {published_weights.obtain(network, absent[0])}")
        files |= {file.remote.name: file.remote for file in weights.values() if file is not None}
    return list(files.values())


def _replaced(failed: Task, fetcher: Fetcher) -> bool:
    """Return whether another archive brought the HR images of a failed one, now or earlier: LR is made from them."""
    return bool(failed.wishes) and all(
        failed.archive is not None
        and HR in failed.archive.kinds(name)
        and len(catalogue.archives_of(name, {HR})) > 1
        and not fetcher.missing([name], {HR})
        for name, _ in failed.wishes
    )


def _dataset(fetcher: Fetcher, name: str) -> dict[str, Any] | None:
    """Describe the images of a dataset; None where not all HR images are there."""
    present = {kind: len(fetcher.present(name, kind)) for kind in (HR, 2, 3, 4)}
    if present[HR] < fetcher.count(name):
        return None
    scales = [scale for scale in (2, 3, 4) if present[scale] >= fetcher.count(name)]
    return {"name": name, "folder": str(fetcher.place(name, HR)), "images": present[HR], "lr_scales": scales}


def _record(folder: Path, datasets: list[dict[str, Any]], scales: list[int], root: Path) -> None:
    """Write what is there of each dataset, a file for each scale, without the names of this machine's folders."""
    for entry in datasets:
        if "folder" not in entry:
            continue
        below = Path(os.path.relpath(entry["folder"], root.expanduser())).as_posix()
        for scale in scales:
            origin = "file" if scale in entry["lr_scales"] else "bicubic"
            record = {
                "dataset": entry["name"],
                "folder": below,
                "images": entry["images"],
                "scale": scale,
                "lr": origin,
            }
            write_json(folder / f"{entry['name']}_x{scale}.json", record)


def _print(report: dict[str, Any]) -> None:
    for file in report["files"]:
        print(f"{file['path']}: {file['bytes'] / 1e6:.1f} MB, sha256 {file['sha256']}")
    for entry in report["datasets"]:
        if "folder" not in entry:
            print(f"{entry['name']}: is there, nothing to fetch")
            continue
        lr = f"LR {', '.join(f'x{scale}' for scale in entry['lr_scales'])}" if entry["lr_scales"] else "no LR"
        print(f"{entry['folder']}: {entry['images']} HR images of {entry['name']}, {lr}; other LR is made from HR")


def _print_list(entries: list[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        if entry["file"] is None:
            rows.append([entry["name"], "", "not downloadable", "", "", "", ""])
            continue
        scales = " ".join([*(["HR"] if entry.get("hr") else []), *(f"x{scale}" for scale in entry["scales"])])
        about = "about " if entry["approximate"] else ""
        size = "?" if entry["bytes"] is None else f"{about}{entry['bytes'] / 1e6:,.1f}"
        rows.append(
            [entry["name"], scales, entry["file"], size, *(entry[k] for k in ("checksum", "licence", "remark"))]
        )
    headers = ["name", "scales", "file", "MB", "checksum", "licence", "remark"]
    output.print_table(headers, rows, right=["MB"])
    reasons = [f"{entry['name']}: {entry['remark']}" for entry in entries if entry["file"] is None]
    print("\n" + "\n".join(reasons))


def _unknown(name: str, known: list[str]) -> str:
    """Return the message for a name that stands for nothing to fetch."""
    if name in network_names():
        return f"{name} has no published weights: train it, `safmn train {name}`"
    return f"there is nothing called {name!r} to fetch: {suggestion(name, known, '`safmn fetch --list` shows all')}"
