"""Which conditions change the bits of a result: the same short training under each, compared with the first.

    python benchmarks/bits.py --out docs/reproducibility.md
    python benchmarks/bits.py --python other/bin/python        # another version of torch, Python or anything else

Each condition is a process of its own. Compared are the weights after the last iteration, the lines of the history, and
PSNR of an evaluation. ISA levels are those that oneDNN (ONEDNN_MAX_CPU_ISA) and ATen (ATEN_CPU_CAPABILITY) can be
limited to.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("safmn", "ln_bn")
STUDY: dict[str, Any] = {
    "name": "bits",
    "description": "A few iterations under many conditions",
    "scales": [4],
    "seeds": [0],
    "variants": list(NETWORKS),
    "networks": [],
    "data": {"train": ["photographs[4:]"], "validation": ["photographs[:1]"], "test": ["photographs[1:2]"]},
    "training": {"iterations": 8, "batch": 4, "patch": 32, "validate_every": 8, "ema": 0.5},
    "run": {"log_every": 1},
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "as it is: one thread": {},
    "again": {},
    "other hash seed of Python": {"env": {"PYTHONHASHSEED": "7"}},
    "OMP_NUM_THREADS=2, training.threads 1": {"env": {"OMP_NUM_THREADS": "2"}},
    "training.threads 2": {"threads": 2},
    "training.threads 4": {"threads": 4},
    "oneDNN up to SSE4.1": {"env": {"ONEDNN_MAX_CPU_ISA": "SSE41"}},
    "oneDNN up to AVX2": {"env": {"ONEDNN_MAX_CPU_ISA": "AVX2"}},
    "oneDNN up to AVX-512": {"env": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}},
    "ATen without AVX2": {"env": {"ATEN_CPU_CAPABILITY": "default"}},
    "ATen with AVX2": {"env": {"ATEN_CPU_CAPABILITY": "avx2"}},
    "ATen with AVX-512": {"env": {"ATEN_CPU_CAPABILITY": "avx512"}},
    "oneDNN up to AVX2, ATen with AVX2": {"env": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}},
}
UNKNOWN = {
    "another CPU of the same kind": "no second one was at hand",
    "another kind of CPU": "not measured; the rows with ISA levels above are the part of it that one machine can show",
    "another operating system": "not measured",
    "another GPU, CUDA or cuDNN": "not measured here; the gradient of some CUDA kernels has no fixed order of sums",
}


def work(packed: Path, out: Path, threads: int) -> None:
    """Train and evaluate in this process; print what it is as JSON."""
    import numpy
    import torch

    from safmn.data import packed as packing
    from safmn.device.description import describe
    from safmn.quality import evaluation, loading
    from safmn.study import Run, Study
    from safmn.training import loop

    content = STUDY | {"training": STUDY["training"] | {"threads": threads}}
    study = Study.from_content(content, "benchmarks/bits.py")
    record: dict[str, Any] = {"psnr": {}, "device": describe("cpu"), "numpy": numpy.__version__}
    record["capability"] = torch.backends.cpu.get_cpu_capability()
    for name in NETWORKS:
        pairs = [
            [packing.open_selection(text, 4, packed, study.roots) for text in use]
            for use in (study.data.train, study.data.validation, study.data.test)
        ]
        folder = out / name
        loop.train(
            study.specification(Run(name, 4, 0)), pairs[0], pairs[1], folder, study.run, device=torch.device("cpu")
        )
        network = loading.load_network(name, 4, folder / "last.safetensors")[0]
        record["psnr"][name] = evaluation.evaluate(network, pairs[2][0], 4).psnr
    print(json.dumps(record))


def measure(python: str, packed: Path, out: Path, condition: dict[str, Any]) -> dict[str, Any] | str:
    """Run one condition; return its record, or why it failed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | condition.get("env", {})
    words = ["--work", str(out), "--packed", str(packed), "--threads", str(condition.get("threads", 1))]
    done = subprocess.run(
        [python, __file__, *words], env=environment, capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def compare(first: Path, second: Path, records: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    """Return the cells of a row: weights, their relative difference, lines of the history, PSNR."""
    from safetensors.numpy import load_file

    same = all(
        (first / name / file).read_bytes() == (second / name / file).read_bytes()
        for name in NETWORKS
        for file in ("last.safetensors", "last_raw.safetensors", "best.safetensors", "history.csv")
    )
    apart, all_of_it = 0.0, 0.0
    lines = []
    for name in NETWORKS:
        a, b = (load_file(folder / name / "last_raw.safetensors") for folder in (first, second))
        apart += sum(float(((a[key] - b[key]).astype("float64") ** 2).sum()) for key in a)
        all_of_it += sum(float((a[key].astype("float64") ** 2).sum()) for key in a)
        texts = [(folder / name / "history.csv").read_text().splitlines()[1:] for folder in (first, second)]
        lines.append(
            next((place for place, pair in enumerate(zip(*texts, strict=True)) if pair[0] != pair[1]), math.inf)
        )
    psnr = max(abs(records[0]["psnr"][name] - records[1]["psnr"][name]) for name in NETWORKS)
    if same:
        return ["the same", "0", "the same", f"{psnr:.1g}" if psnr else "0"]
    line = min(lines)
    return [
        "other",
        f"{math.sqrt(apart / all_of_it):.1g}",
        f"from iteration {line + 1:.0f}" if line < math.inf else "the same",
        f"{psnr:.1g}",
    ]


def table(rows: dict[str, list[str]], device: dict[str, Any], capability: str, code: dict[str, Any]) -> str:
    """Return the page."""
    training = STUDY["training"]
    commit = str(code["code_commit"] or code["code_sha256"])[:10] + (" with changes" if code["code_dirty"] else "")
    lines = [
        "# Equal to the bit",
        "",
        "Under which conditions does the same training give the same bytes? `benchmarks/bits.py` writes this page.",
        f"Measured: {datetime.now(UTC):%Y-%m-%d}, {device['cpu']} ({device['cores']} cores, {capability}), ",
        f"{device['os']}, Python {device['python']}, torch {device['torch']}, code {commit}. ",
        f"`{'` and `'.join(NETWORKS)}` at x4, {training['iterations']} iterations of {training['batch']} patches of ",
        f"{training['patch']}x{training['patch']}. Each condition is a process of its own.",
        "",
        "| condition | weights and history | difference of the weights | history | PSNR apart, dB |",
        "|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
        *(f"| {name} | unknown: {why} | | | |" for name, why in UNKNOWN.items()),
        "",
        "All rows are compared with the first one. The difference is the norm of the difference of all weights,",
        "relative to the norm of the weights. Where it says unknown, expect other bits.",
        "",
        "`safmn verify` expects the same bytes only if the model of the CPU or GPU, the kind of operating system, the",
        "version of torch and the training code are the same. Elsewhere it compares PSNR with the spread between",
        "seeds. The number of threads is part of a study (`training.threads`).",
        "",
    ]
    lines = [line.rstrip() for line in lines]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the page here")
    parser.add_argument("--python", action="append", default=[], help="another interpreter, compared as well")
    parser.add_argument("--only", type=int, metavar="N", help="the first N conditions")
    for hidden in ("--work", "--packed"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work is not None:
        work(args.packed, args.work, args.threads)
        return
    from safmn import provenance

    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, reference = Path(scratch), None
        conditions = [(name, condition, sys.executable) for name, condition in CONDITIONS.items()][: args.only]
        conditions += [(python, {}, python) for python in args.python]
        for number, (name, condition, python) in enumerate(conditions):
            record = measure(python, folder / "data", folder / str(number), condition)
            if isinstance(record, str):
                rows[name] = ["not possible", "", "", record.replace("|", "/")[:120]]
                continue
            reference = reference or record
            if python != sys.executable:
                name = (
                    f"torch {record['device']['torch']}, Python {record['device']['python']}, numpy {record['numpy']}"
                )
            elif record["capability"] != reference["capability"]:
                name += f" ({record['capability']})"
            rows[name] = compare(folder / "0", folder / str(number), (reference, record))
            print(name, *rows[name], sep="; ", flush=True)
    assert reference is not None
    text = table(rows, reference["device"], reference["capability"], provenance.code())
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
