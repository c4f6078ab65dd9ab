"""A results folder with known numbers in it, written file by file as the stages write them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from safmn import paths
from safmn.files import write_json, write_text
from safmn.inspection import record
from safmn.paper import published
from safmn.paper.cell import Cell
from safmn.report.joined import Joined
from safmn.study import Run, Study

TRAINING = {"iterations": 100, "batch": 4, "patch": 24, "validate_every": 50}
PROVENANCE = {"device": "cpu", "cpu": "Test CPU", "torch": "2.13.0", "python": "3.12.0", "threads": 1}
GPU = {"device": "cuda", "gpu": "NVIDIA GeForce RTX 3090", "torch": "2.13.0"}


def study(**changes: Any) -> Study:
    """A study on Set5, x4; `changes` replace top-level keys."""
    content = {
        "name": "made",
        "description": "A study that was made up",
        "scales": [4],
        "seeds": [0],
        "variants": ["safmn", "no_fm"],
        "networks": [],
        "data": {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": ["Set5"]},
        "training": dict(TRAINING),
    }
    return Study.from_content(content | changes, "made.yaml")


def own_variants(folder: Path, **texts: str) -> None:
    """A folder with the paper's variants and a user's own, name -> content of the file."""
    for file in paths.ablations().glob("*.yaml"):
        write_text(folder / file.name, file.read_text(encoding="utf-8"))
    for name, text in texts.items():
        write_text(folder / f"{name}.yaml", text)


def paper(**changes: Any) -> Study:
    """The paper's own protocol, two variants of it, tested on Set5; `changes` replace top-level keys."""
    whole = Study.load(paths.ROOT / "config" / "paper.yaml").content
    data = whole["data"] | {"test": ["Set5", "Manga109"]}
    return Study.from_content(
        whole | {"scales": [4], "seeds": [0], "variants": ["safmn", "no_fm"], "networks": [], "data": data} | changes,
        "paper.yaml",
    )


def run(folder: Path, of: Study, variant: str, seed: int = 0, scale: int = 4, **changes: Any) -> None:
    """run.json and history.csv of a finished run; `changes` replace keys of run.json."""
    place = folder / "training" / Run(variant, scale, seed).folder
    record = {
        "outcome": "finished",
        "collapse": None,
        "best": {"iteration": 50, "validation_psnr_rgb": 27.0},
        "last": {"iteration": 100},
        "specification": of.specification(Run(variant, scale, seed)),
        "provenance": PROVENANCE,
        "seconds": 12.5,
    }
    write_json(place / "run.json", record | changes)
    with open(place / "history.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["iteration", "learning_rate", "l1_loss", "fft_loss", "gradient_norm", "validation_psnr_rgb"])
        writer.writerows([[step, 1e-3, 1 / step, 0.3, 1.0, 25 + step / 50] for step in (10, 50, 100)])


def collapsed(iteration: int = 60, reason: str = "the loss is not finite") -> dict[str, Any]:
    """What `run` must be given for a run that collapsed."""
    return {
        "outcome": "collapsed",
        "collapse": {"iteration": iteration, "reason": reason, "loss": None, "gradient_norm": None},
    }


def quality(
    folder: Path, network: str, weights: str, dataset: str, psnr: list[float], ssim: float = 0.9, scale: int = 4
) -> None:
    """One CSV of image, psnr, ssim; the same SSIM for every image."""
    file = folder / "quality" / network / f"x{scale}" / weights / f"{dataset}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "psnr", "ssim"])
        writer.writerows(
            [f"image{number:03}", repr(float(value)), repr(float(ssim))] for number, value in enumerate(psnr)
        )


def trained(
    folder: Path,
    of: Study,
    network: str,
    psnr: list[float],
    seed: int = 0,
    scale: int = 4,
    dataset: str = "Set5",
    **changes: Any,
) -> None:
    """A finished run and the scores of its best weights."""
    run(folder, of, network, seed, scale, **changes)
    quality(folder, network, f"seed{seed}_best", dataset, psnr, scale=scale)


def cell(of: Study, folder: Path, network: str, column: str, table: int = 3, scale: int = 4) -> Cell:
    """The one cell there."""
    (only,) = [each for each in Joined(of, folder).cells if each.place == (table, network, scale, column)]
    return only


def complexity(
    folder: Path, network: str, params: int, flops: int, activations: int, scale: int = 4, alternatives: Any = None
) -> None:
    """cost/complexity/<network>.json at one scale; `alternatives` are column -> list."""
    counts = {"params": params, "flops": flops, "activations": activations, "alternatives": alternatives or {}}
    record = {
        "network": network,
        "convention": "fvcore, as in the paper",
        "versions": {"fvcore": "0.1.5"},
        "scales": {str(scale): counts},
    }
    write_json(folder / "cost" / "complexity" / f"{network}.json", record)


def memory(folder: Path, peaks: dict[str, float], measured: dict[str, float] | None = None, **changes: Any) -> None:
    """cost/memory.json; peaks in MiB."""

    def forms(peak: float, **more: Any) -> dict[str, Any]:
        return {form: {"peak": round(peak * 2**20), "layer": "feats.1", **more} for form in ("reference", "fused")}

    networks: dict[str, Any] = {name: {"predicted": forms(peak)} for name, peak in peaks.items()}
    for name, peak in (measured or {}).items():
        networks[name]["measured"] = forms(peak, status="measured")
    record = {
        "provenance": GPU if measured else {"device": "meta"},
        "settings": {"scale": 4, "height": 180, "width": 320, "unit": "bytes", "convention": "peak of live storage"},
        "networks": networks,
    }
    write_json(folder / "cost" / "memory.json", record | changes)


def runtime(folder: Path, times: dict[str, float], provenance: dict[str, Any] = PROVENANCE, **settings: Any) -> None:
    """cost/runtime.json; mean times in ms."""
    networks = {
        name: {
            "eager": {
                "status": "timed",
                "median_ms": value * 0.99,
                "mean_ms": value,
                "iqr_ms": 0.1,
                "spread_percent": 1.5,
                "ratio_to_safmn": value / times["safmn"],
                "habit": {"status": "timed", "mean_ms": value * 2, "first_ms": value * 9, "images": 50},
            }
        }
        for name, value in times.items()
    }
    shape = {"images": 50, "height": 180, "width": 320, "processes": 3} | settings
    write_json(folder / "cost" / "runtime.json", {"provenance": provenance, "settings": shape, "networks": networks})


def inspection(
    folder: Path,
    network: str,
    weights: str,
    index: float | None,
    psnr: float | None,
    image: str = "butterfly",
    panels: str = "bcdefg",
    features: bool = True,
) -> None:
    """inspection/<network>/x4/<weights>.json and .npz; the crop's PSNR is 1 dB below the image's."""
    rng = np.random.default_rng(0)
    where = {"dataset": "Set5", "image": image, "left": 32, "top": 40, "hr_width": 128, "hr_height": 112}
    numbers: dict[str, Any] = {
        "network": network,
        "scale": 4,
        "settings": {"window": 16, "patch": 20, "sigma": 1.2, "steps": 24, "block": 0},
        "attribution": where
        | {"diffusion_index": index, "detector": 20.0, "baseline": 5.0, "gap": 0.001, "patch_at": [2, 3]}
        | {"window": {"left": 32, "top": 32, "size": 16}},
        "features": None,
        "crops": [where | {"psnr": psnr, "psnr_crop": psnr and psnr - 1, "size": 24}],
    }
    arrays = {
        "attribution": rng.normal(size=(20, 20)).astype(np.float32),
        "attribution_lr": rng.integers(0, 256, (20, 20, 3), dtype=np.uint8),
        **{f"crop0_{kind}": rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for kind in ("sr", "hr")},
        "crop0_overview": rng.integers(0, 256, (112, 128, 3), dtype=np.uint8),
    }
    if features:
        channels = {panel: 9 if panel in "bcde" else 36 for panel in panels}
        numbers["features"] = where | {"module": "feats.7.safm", "block": 8, "blocks": 8, "channels": channels}
        arrays["features_lr"] = rng.integers(0, 256, (28, 32, 3), dtype=np.uint8)
        arrays |= {f"features_{panel}": rng.normal(size=(28, 32)).astype(np.float32) for panel in panels}
    found = record.Inspection(numbers, arrays)
    record.check(found)
    record.write(folder / "inspection" / network / "x4" / f"{weights}.json", found)


def operations(
    folder: Path, totals: dict[str, float], provenance: dict[str, Any] = PROVENANCE, images: int = 50
) -> None:
    """cost/operations.json; title -> total time in ms over `images` images."""
    found = {
        f"operation{number}": {"title": title, "total_ms": total, "per_image_ms": total / images, "share": 0.125}
        for number, (title, total) in enumerate(totals.items())
    }
    settings = {"images": images, "height": 180, "width": 320, "form": "reference"}
    write_json(
        folder / "cost" / "operations.json", {"provenance": provenance, "settings": settings, "operations": found}
    )


def evaluation(folder: Path, network: str, which: str, scale: int = 4, /, **facts: Any) -> None:
    """quality/<network>/x<scale>/<which>/evaluation.json with some `facts`."""
    file = folder / "quality" / network / f"x{scale}" / which / "evaluation.json"
    write_json(file, {"network": network, "scale": scale, "provenance": PROVENANCE} | facts)


def everything(folder: Path) -> Study:
    """A study with something of everything: verdicts of many kinds, a collapse, claims, gaps; returns it."""
    variants = ["safmn", "no_fm", "ccm_none", "ln_bn", "ln_bn_reference_ema", "blocks_4", "blocks_12"]
    made = study(variants=variants, networks=["bicubic", "imdn", "carn"], extra_seeds={"no_fm": [1, 2]})
    for place, name in enumerate(variants):
        # The paper's own counts for two, none of the paper's for the others.
        counts = {"safmn": (239_520, 13_554_915_840, 76_700_160), "no_fm": (239_520, 13_554_915_840, 76_700_160)}
        complexity(folder, name, *counts.get(name, (300_000 - place, 14_000_000_000, 80_000_000 + place)))
        for seed in made.seeds_of(name):
            run(folder, made, name, seed, **(collapsed() if name == "ln_bn" else {}))
            if name != "blocks_4":
                scores = [27.0 + image - place / 10 + seed / 100 for image in range(5)]
                quality(folder, name, f"seed{seed}_best", "Set5", scores)
    quality(folder, "imdn", "published", "Set5", [32.21] * 5, 0.8948)
    memory(folder, {"safmn": 64.9, "imdn": 200.28, "carn": 681.74})
    runtime(folder, {"safmn": 1000.0, "imdn": 500.0, "carn": 2000.0})
    operations(folder, dict.fromkeys(published.OPERATIONS, 12.5))
    return made
