"""`safmn memory`: peak memory, predicted without a GPU or measured on one."""

import argparse
from contextlib import nullcontext
from typing import Any

from safmn import provenance
from safmn.commands import options, output
from safmn.device import lease
from safmn.study import Run, Study

HELP = """Peak memory while a network enlarges one image, torch.cuda.max_memory_allocated() of Table 2: predicted
without a GPU from the network's own operations, and measured where there is one. With --training also the peak of a
training step, to see whether a batch fits the card."""

EXAMPLES = """examples:
  safmn memory safmn imdn --scale 4                        # Table 2: 320x180 LR pixels
  safmn memory safmn --scale 2 --height 512 --width 512 --json
  safmn memory safmn --scale 4 --training --batch 64 --patch 64
  safmn memory ln_bn --training --study config/t291.yaml   # as the study trains it: batch, patch, precision, averages
  safmn memory safmn --scale 4 --measure --out results/gpu/cost/memory/safmn.json

Units: sizes in LR pixels; printed in MiB (2^20 bytes), in bytes in JSON. float32, one image. Weights and input are
included; workspaces of cuDNN, and the CUDA context (some hundred MiB that nvidia-smi shows), are not. `reference`
computes LayerNorm step by step, as the authors' code, of which Table 2 is; `fused` by torch's kernel."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_names(parser)
    parser.add_argument("--training", action="store_true", help="predict a training step, too")
    parser.add_argument("--study", metavar="FILE", help="predict its training step (default: the paper's)")
    parser.add_argument("--batch", type=int, help="patches in a training step (default: the study's, else 64)")
    parser.add_argument("--patch", type=int, help="LR pixels a side of a patch (default: the study's, else 64)")
    parser.add_argument("--measure", action="store_true", help="measure on a CUDA device, held for this alone")
    parser.add_argument("--measure-if-cuda", action="store_true", help="measure where there is one, else only predict")
    options.add_measurement(parser, device="cpu: measure nothing, only predict")


def run(args: argparse.Namespace) -> None:
    """Predict, measure and print."""
    args.names = options.names_of(args)
    begun = provenance.begin()
    measuring = (args.measure or args.measure_if_cuda) and args.device != "cpu"
    # The lease comes before anything that starts CUDA.
    with lease.alone() if measuring else nullcontext():
        record = _record(args, measuring)
    output.deliver(args, begun, record, _print)


def _record(args: argparse.Namespace, measuring: bool) -> dict[str, Any]:
    training = {name: _training(args, name) for name in args.names} if args.training or args.study else None
    import torch

    from safmn.cost import memory
    from safmn.device import description as device

    settings: dict[str, Any] = {
        "scale": args.scale,
        "height": args.height,
        "width": args.width,
        "unit": "bytes",
        "convention": memory.CONVENTION,
    }
    if training is not None:
        settings["training"] = training
    cuda = device.Cuda() if measuring and (args.measure or torch.cuda.is_available()) else None
    figures: dict[str, Any] = {}
    for name in args.names:
        size = (name, args.scale, args.height, args.width)
        forms = memory.forms(name, args.scale)
        figures[name] = {"predicted": {form: memory.predict_details(*size, form) for form in forms}}
        if training is not None:
            figures[name]["training"] = memory.predict_training(name, args.scale, training[name])
        if cuda is not None:
            figures[name]["measured"] = {form: memory.measure(*size, form, cuda) for form in forms}
        elif args.measure_if_cuda:
            figures[name]["measured"] = {"status": "not measured", "reason": "no CUDA device is usable here"}
    return {
        "provenance": device.describe("cuda" if cuda else "meta"),
        "settings": settings,
        "networks": figures,
    }


def _training(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return how the network is trained: as the study says, or by the paper's settings in float32."""
    if args.study:
        settings = Study.load(args.study).specification(Run(name, args.scale, 0))["training"]
    else:
        paper = {"iterations": 500_000, "batch": 64, "patch": 64, "validate_every": 5000}
        data = {"train": ["DIV2K"], "validation": ["DIV2K_val"], "test": []}
        content = {"name": "paper", "description": "", "scales": [4], "seeds": [0], "data": data, "training": paper}
        settings = Study.from_content(content, "safmn memory").specification(Run(name, args.scale, 0))["training"]
    chosen = {key: value for key in ("batch", "patch") if (value := getattr(args, key)) is not None}
    return {**settings, **chosen}


def _print(record: dict[str, Any]) -> None:
    settings = record["settings"]
    print(f"x{settings['scale']}, LR image {settings['width']}x{settings['height']} (width x height), MiB, float32")
    for name, figures in record["networks"].items():
        print(name)
        for form, part in figures["predicted"].items():
            print(f"  predicted, {form:<10}{_parts(part)}  peak at {_place(part)}")
        measured = figures.get("measured", {})
        if "status" in measured:
            print(f"  {measured['status']}: {measured['reason']}")
            measured = {}
        for form, part in measured.items():
            if part["status"] == "measured":
                flag = "  MORE THAN 10 % OFF: to be explained" if part["flagged"] else ""
                print(f"  measured,  {form:<10}{_parts(part)}  {part['difference_percent']:+.1f} % of prediction{flag}")
            else:
                print(f"  measured,  {form:<10}{part['status']}: {part['message']}")
        if "training" in figures:
            part, training = figures["training"], settings["training"][name]
            what = f"training step of {training['batch']} patches of {training['patch']}x{training['patch']}"
            what += f" in {training['precision']}"
            remark = f"  ({part['remark']})" if "remark" in part else ""
            print(f"  predicted, {what}: {_mib(part['peak']).strip()}  peak at {_place(part)}{remark}")


def _parts(part: dict[str, Any]) -> str:
    return f"{_mib(part['peak'])}  weights {_mib(part['weights'])}  activations {_mib(part['activations'])}"


def _mib(size: int) -> str:
    return f"{size / 2**20:9.2f}"


def _place(part: dict[str, Any]) -> str:
    return f"{part['layer'] or 'the network itself'} ({part['operation']})"
