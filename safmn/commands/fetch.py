"""`safmn fetch`: published weights and datasets, downloaded and verified."""

import argparse
from pathlib import Path
from typing import Any

HELP = """Download published weights and datasets. Downloads are verified, resumed where they were cut off, and never
left half under their final name; checksums that nobody published are recorded in checksums.json when first seen, and
compared from then on. What is there already is verified (weights) or used (images), never replaced."""

EXAMPLES = """examples:
  safmn fetch --list                              what there is, sizes in MB (10^6 bytes)
  safmn fetch imdn pan --scale 4 --to weights     IMDN_x4.pth and PANx4_DF2K.pth
  safmn fetch --weights --to weights              every network's published weights
  safmn fetch benchmark --to data                 Set5, Set14, B100, Urban100
  safmn fetch DF2K DIV2K_val --scale 4 --to data  what the paper trains and validates on, LR at x4
  safmn fetch DIV2K --hr-only --to data           LR images are then made from HR, bit for bit as MATLAB makes them
  safmn fetch Set5 --to data --base-url http://mirror.example:8000

DIR is what a study names as `weights.root` or `data_root`. Datasets are unpacked into the layout of their publishers,
e.g. DIR/benchmark/Set5/HR; archives that you have already are taken from DIR/archives. Manga109 may not be
redistributed: `safmn fetch Manga109 --to data` says how to get it.

environment:
  SAFMN_MIRROR       as --base-url
  SAFMN_CORRECTIONS  as --corrections
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
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
        "--attempts", type=int, default=5, metavar="N", help="in a row without a new byte, for each URL (default: 5)"
    )
    parser.add_argument("--keep-archives", action="store_true", help="keep DIR/archives after unpacking")
    parser.add_argument(
        "--room-for",
        nargs="+",
        default=[],
        metavar="DATASET",
        help="begin only if the disk has room for these as well, which others fetch into DIR meanwhile",
    )
    parser.add_argument(
        "--record",
        metavar="FOLDER",
        help="write FOLDER/DATASET_xSCALE.json for each dataset and scale, once all is there",
    )
    parser.add_argument("--list", action="store_true", help="list what can be fetched, and what cannot and why")
    parser.add_argument("--json", action="store_true", help="print what was done, or the list, as JSON (bytes)")


def run(args: argparse.Namespace) -> None:
    """Fetches and prints what is there then."""
    import json

    from safmn.data import remote
    from safmn.errors import UserError

    corrections = remote.corrections(args.base_url, args.corrections)
    if args.list:
        entries = listing(corrections)
        print(json.dumps(entries, indent=2, ensure_ascii=False) if args.json else _table(entries))
        return
    if args.to is None:
        raise UserError("--to is missing: give the folder for weights or datasets, or --list")
    if args.jobs < 1 or args.attempts < 1:
        raise UserError("--jobs and --attempts must be 1 or more")
    networks, datasets = resolve(args.names, args.weights, args.data)
    report = _fetch(args, networks, datasets, corrections)
    if args.record and not report["failed"]:
        _record(Path(args.record), report["datasets"], sorted(set(args.scale or (2, 3, 4))), Path(args.to))
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report)
    if report["failed"]:
        first, *others = report["failed"]
        more = f" (and {len(others)} more)" if others and args.json else ""
        for each in others if not args.json else []:
            _note(each["reason"])
        raise UserError(f"{first['reason']}{more}")


def resolve(names: list[str], weights: bool, data: bool) -> tuple[list[str], list[str]]:
    """Names (in any case) as networks and datasets, groups replaced by their members.

    Raises:
        UserError: no name at all, an unknown one, or one of which nothing can be downloaded at any scale.
    """
    from safmn.data import catalogue, sources
    from safmn.errors import UserError
    from safmn.networks import published_weights

    known_networks = dict.fromkeys(each.network for each in published_weights.WEIGHTS)
    if not names and not (weights or data):
        raise UserError("nothing is asked for: name networks or datasets, or give --weights, --data or --list")
    if not names:
        return (list(known_networks), []) if weights else ([], catalogue.downloadable())
    all_networks = {name.casefold(): name for name in (*known_networks, *published_weights.WITHOUT, "bicubic")}
    all_datasets = {name.casefold(): name for name in (*catalogue.GROUPS, *sources.DATASETS, "photographs")}
    networks: dict[str, None] = {}
    datasets: dict[str, None] = {}
    for name in names:
        network, dataset = all_networks.get(name.casefold()), all_datasets.get(name.casefold())
        if network and data:
            raise UserError(f"{network} is no dataset: leave out --data")
        if dataset and weights:
            raise UserError(f"{dataset} is no network: leave out --weights")
        if network:
            networks[network] = None
        elif dataset:
            datasets.update(dict.fromkeys(catalogue.GROUPS.get(dataset, (dataset,))))
        else:
            raise UserError(_unknown(name, [*all_datasets.values(), *known_networks]))
    return list(networks), list(datasets)


def listing(corrections: Any) -> list[dict[str, Any]]:
    """One entry a file or a thing that cannot be downloaded: kind, name, scales, file, bytes, checksum, remark."""
    from safmn.data import catalogue, sources
    from safmn.networks import published_weights

    def entry(kind: str, name: str, scales: Any, remote: Any, size: int | None, **more: str) -> dict[str, Any]:
        remote = corrections.apply(remote)
        checksum = "sha256" if remote.sha256 else "md5" if remote.md5 else "first seen"
        return {
            "kind": kind,
            "name": name,
            "scales": list(scales),
            "file": remote.name,
            "bytes": remote.size if remote.size is not None else size,
            "approximate": remote.size is None,
            "checksum": checksum,
            "urls": list(remote.urls),
            **more,
        }

    entries = [
        entry("weights", each.network, each.scales, each.remote, None, licence=each.licence, remark=each.loads)
        for each in published_weights.WEIGHTS
    ]
    entries += [
        entry(
            "data",
            name,
            [kind for kind in kinds if kind != catalogue.HR],
            each.remote,
            each.about,
            licence=each.licence,
            remark=each.remark,
        )
        | {"hr": catalogue.HR in kinds}
        for name in catalogue.downloadable()
        for each in catalogue.ARCHIVES
        for kinds in [each.holds.get(name, ())]
        if kinds
    ]
    entries += [
        {"kind": "weights", "name": name, "file": None, "remark": reason}
        for name, reason in published_weights.WITHOUT.items()
    ]
    entries += [
        {"kind": "data", "name": name, "file": None, "remark": catalogue.why_not(name)}
        for name in sources.DATASETS
        if name not in catalogue.downloadable()
    ]
    return entries


def _fetch(args: argparse.Namespace, networks: list[str], datasets: list[str], corrections: Any) -> dict[str, Any]:
    from safmn.data import catalogue, download, fetching

    scales = set(args.scale or (2, 3, 4))
    kinds = {catalogue.HR} if args.hr_only else {catalogue.HR, *scales}
    root = Path(args.to).expanduser()
    fetcher = fetching.Fetcher(
        root, corrections, download.Patience(attempts=args.attempts), jobs=args.jobs, keep_archives=args.keep_archives
    )
    files = _files(networks, scales, bool(args.scale))
    _refuse(datasets, fetcher)
    wanted = [name for name in datasets if name in catalogue.FOLDERS]
    others = resolve(args.room_for, False, True)[1] if args.room_for else []
    tasks = fetcher.run(wanted, kinds, files, [name for name in others if name in catalogue.FOLDERS])
    return {
        "files": [_file(task) for task in tasks if task.archive is None and task.path is not None],
        "datasets": [each for name in wanted if (each := _dataset(fetcher, name))]
        + [{"name": name} for name in datasets if name not in wanted],
        "failed": [
            {"name": task.remote.name, "reason": str(task.problem)}
            for task in tasks
            if task.problem is not None and not _replaced(task, tasks, fetcher)
        ],
    }


def _files(networks: list[str], scales: set[int], scales_named: bool) -> list[Any]:
    """The files to download; UserError for a network without any, or without one at a scale that was named."""
    from safmn.errors import UserError
    from safmn.networks import published_weights

    found = {}
    for network in networks:
        at = {scale: published_weights.find(network, scale) for scale in sorted(scales)}
        if network == "bicubic" or not any(at.values()) or (scales_named and not all(at.values())):
            scale = next(scale for scale, weights in at.items() if weights is None)
            raise UserError(f"no weights of {network} x{scale}: {published_weights.obtain(network, scale)}")
        found |= {weights.remote.name: weights.remote for weights in at.values() if weights is not None}
    return list(found.values())


def _refuse(datasets: list[str], fetcher: Any) -> None:
    """UserError for a dataset that cannot be downloaded, unless it is there."""
    from safmn.data import catalogue, sources
    from safmn.errors import UserError

    for name in datasets:
        if name == "photographs" or name in catalogue.FOLDERS:
            continue
        try:
            sources.locate(name, fetcher.root)
        except UserError:
            raise UserError(f"{name} cannot be downloaded by `safmn fetch`: {catalogue.why_not(name)}") from None


def _replaced(failed: Any, tasks: list[Any], fetcher: Any) -> bool:
    """Whether a failed archive can be done without: another one brought the HR images, from which LR ones can be made.

    Now or in an earlier fetch, where the catalogue has two archives of the HR images and only the failed one has LR.
    """
    from safmn.data import catalogue
    from safmn.data.catalogue import HR

    done = {wish for task in tasks if task.problem is None for wish in task.wishes}
    wanted = [wish for wish in failed.wishes if wish[1] == HR]
    if wanted:
        return all(wish in done for wish in wanted)
    return bool(failed.wishes) and all(
        HR in failed.archive.holds[name]
        and len(catalogue.archives_of(name, {HR})) > 1
        and not fetcher.missing([name], {HR})
        for name, _ in failed.wishes
    )


def _file(task: Any) -> dict[str, Any]:
    from safmn.data import download

    return {
        "name": task.remote.name,
        "path": str(task.path),
        "bytes": task.path.stat().st_size,
        "sha256": download.checksums(task.path)["sha256"],
    }


def _dataset(fetcher: Any, name: str) -> dict[str, Any] | None:
    """What is there of a dataset; None where not all HR images are."""
    from safmn.data.catalogue import HR

    if len(fetcher.present(name, HR)) < fetcher.count(name):
        return None
    scales = [scale for scale in (2, 3, 4) if len(fetcher.present(name, scale)) >= fetcher.count(name)]
    return {
        "name": name,
        "folder": str(fetcher.place(name, HR)),
        "images": len(fetcher.present(name, HR)),
        "lr_scales": scales,
    }


def _record(folder: Path, datasets: list[dict[str, Any]], scales: list[int], root: Path) -> None:
    """What is there of each dataset, a file a scale, without the names of this machine's folders."""
    import os

    from safmn.files import write_json

    for each in datasets:
        if "folder" not in each:
            continue
        below = Path(os.path.relpath(each["folder"], root.expanduser())).as_posix()
        known = {"dataset": each["name"], "folder": below, "images": each["images"]}
        for scale in scales:
            origin = "file" if scale in each["lr_scales"] else "bicubic"
            write_json(folder / f"{each['name']}_x{scale}.json", known | {"scale": scale, "lr": origin})


def _print(report: dict[str, Any]) -> None:
    for each in report["files"]:
        print(f"{each['path']}: {each['bytes'] / 1e6:.1f} MB, sha256 {each['sha256']}")
    for each in report["datasets"]:
        if "folder" not in each:
            print(f"{each['name']}: is there, nothing to fetch")
            continue
        lr = ", ".join(f"x{scale}" for scale in each["lr_scales"])
        lr = f"LR {lr}" if lr else "no LR"
        print(f"{each['folder']}: {each['images']} HR images of {each['name']}, {lr}; other LR is made from HR")


def _note(text: str) -> None:
    import sys

    print(f"safmn fetch: {text}", file=sys.stderr)


def _table(entries: list[dict[str, Any]]) -> str:
    from tabulate import tabulate

    rows = []
    for each in entries:
        if each["file"] is None:
            rows.append([each["name"], "", "not downloadable", "", "", "", ""])
            continue
        scales = " ".join([*(["HR"] if each.get("hr") else []), *(f"x{scale}" for scale in each["scales"])])
        about = "about " if each["approximate"] else ""
        size = "?" if each["bytes"] is None else f"{about}{each['bytes'] / 1e6:,.1f}"
        licence = each["licence"]
        rows.append([each["name"], scales, each["file"], size, each["checksum"], licence, each["remark"]])
    headers = ["name", "scales", "file", "MB", "checksum", "licence", "remark"]
    table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left",) * 3 + ("right",))
    reasons = [f"{each['name']}: {each['remark']}" for each in entries if each["file"] is None]
    return table + "\n\n" + "\n".join(reasons)


def _unknown(name: str, known: list[str]) -> str:
    """The message for a name that stands for nothing that could be fetched."""
    import difflib

    from safmn import networks

    if name in networks.names():
        return f"{name} has no published weights: train it, `safmn train {name}`"
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`safmn fetch --list` shows all"
    return f"there is nothing called {name!r} to fetch: {hint}"
