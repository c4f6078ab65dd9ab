"""`safmn train`: one run of a study."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from safmn.errors import UserError

HELP = """Train one network as a study says; resume from a saved state in the folder if there is one.

Leaves best.safetensors (averaged weights, best on validation), last.safetensors (averaged weights at the end),
last_raw.safetensors (not averaged), history.csv, run.json and tensorboard/. It may be killed at any time: the same
command resumes from the saved state and ends with the same bytes. Exit status: 0 done (a collapse is a result too, see
run.json), 2 a mistake, 75 time limit or SIGUSR1 (state saved, run again), 130/143 interrupted/terminated (likewise)."""

EXAMPLES = """examples:
  safmn train safmn --study config/mini.yaml --scale 4 --seed 0 --out runs/baseline
  safmn train no_fm --study config/t291.yaml --scale 4 --seed 0 --out runs/no_fm --data-root DATA --iterations 1000
"""

REQUEUE = 75  # EX_TEMPFAIL: run again


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a variant or network, see `safmn list`")
    parser.add_argument("--network", metavar="NAME", help="likewise")
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, e.g. config/mini.yaml")
    parser.add_argument("--scale", type=int, help="upscaling factor: 2, 3 or 4 (default: the study's, if it has one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of initial weights and patches (default 0)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--iterations", type=int, metavar="N", help="instead of the study's number of iterations")
    parser.add_argument("--data-root", metavar="DIR", help="instead of the study's data.root")
    parser.add_argument(
        "--packed",
        "--packs",
        type=Path,
        metavar="DIR",
        help="packed datasets, made if missing (default results/<study>/data)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    parser.add_argument("--no-check", action="store_true", help="do not compare complexity with the paper's row first")
    parser.add_argument("--restart", action="store_true", help="set saved states aside and start anew")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="save and exit with 75 after this long")


class _Stopped(BaseException):
    """A signal while there was nothing to save; no Exception, so that no handler of errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(args: argparse.Namespace) -> int:
    """Train and return the exit status."""
    if (args.name is None) == (args.network is None):
        raise UserError("give the network once, as NAME or with --network NAME")
    args.network = args.network or args.name
    # Signals come first: importing torch takes seconds, packing minutes and waiting for a device hours.
    try:
        with _signals() as check_signals:
            return _run(args, check_signals)
    except _Stopped as stopped:
        print(f"safmn train: {args.network}: stopped; run the same command to resume", file=sys.stderr)
        return _status(stopped.number)


def _run(args: argparse.Namespace, check_signals: Callable[[], None]) -> int:
    """Train; keep the reason of a failure in the run's folder."""
    from safmn import layout
    from safmn.errors import as_line
    from safmn.files import write_text

    failure = args.out / layout.FAILURE
    try:
        status = _train(args, check_signals)
    except Exception as error:
        # For the tables, which say why a cell is missing. Snakemake deletes a failed job's outputs, but not this file.
        with contextlib.suppress(UserError):
            write_text(failure, f"{as_line(error)}\n")
        raise
    with contextlib.suppress(OSError):
        failure.unlink(missing_ok=True)
    return status


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """Keep SIGTERM and SIGUSR1 until training, which has to save first, replaces the handlers.

    Yields:
        A function that raises the first signal received, since Python drops an exception that is raised inside a
        destructor. Signals raise at once only after its first call: an exception inside of torch's import can end in
        C++ code, which aborts.
    """
    received: list[int] = []
    may_raise = False

    def keep(number: int, _: FrameType | None) -> None:
        received.append(number)
        if may_raise:
            raise _Stopped(number)

    def check() -> None:
        nonlocal may_raise
        may_raise = True
        if received:
            raise _Stopped(received[0])

    before = {number: signal.signal(number, keep) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(number: int) -> int:
    return REQUEUE if number == signal.SIGUSR1 else 128 + number


def _train(args: argparse.Namespace, check_signals: Callable[[], None]) -> int:
    from functools import partial

    from safmn import layout, networks
    from safmn.errors import as_line
    from safmn.study import Run, Study

    # Mistakes in names and numbers are told before torch is imported.
    networks.info(args.network)
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed {args.seed}: give 0 to {2**32 - 1}")
    if args.iterations is not None and args.iterations < 1:
        raise UserError(f"--iterations {args.iterations}: give at least 1")
    study = Study.load(args.study, data_root=args.data_root, iterations=args.iterations)
    if args.scale is None and len(study.scales) > 1:
        raise UserError(f"{args.study} has scales {', '.join(map(str, study.scales))}: choose one with --scale")
    args.scale = args.scale or study.scales[0]
    import torch

    from safmn.data.packed import open_selection
    from safmn.device import lease
    from safmn.device.description import Cuda
    from safmn.report import counts
    from safmn.training import loop, own, stopping

    check_signals()
    specification = study.specification(Run(args.network, args.scale, args.seed))
    if not args.no_check:
        counts.check(args.network, args.scale)
    if own.classes(specification["training"]):
        from safmn.training import trial

        trial.check(specification, partial(study.where_trained, args.network))
        check_signals()
    packed = args.packed or study.results / layout.DATA
    data = study.data
    train, validate = (
        [open_selection(text, args.scale, packed, study.roots, data.folders, data.border) for text in selections]
        for selections in (study.train_of(args.network), data.validation)
    )
    with lease.share(args.device, study.run.jobs_per_device):
        if args.device == "cuda":
            Cuda()  # raises if there is none
        check_signals()
        try:
            record = loop.train(
                specification,
                train,
                validate,
                args.out,
                study.run,
                device=torch.device(args.device) if args.device else None,
                restart=args.restart,
                time_limit=args.time_limit,
            )
        except stopping.Interrupted as interrupted:
            print(f"safmn train: {args.network}: {interrupted}", file=sys.stderr)
            return _status(interrupted.number)
        except Exception as error:
            network = networks.info(args.network)
            is_own = network.is_own or any(":" in str(value) for value in specification["switches"].values())
            if isinstance(error, UserError) or not (is_own or own.classes(specification["training"])):
                raise
            advice = "" if isinstance(error, OSError) else ": correct the class"  # a full disk is no fault of the class
            raise UserError(
                f"{network.file or study.where}: {args.network} fails in training ({as_line(error)}){advice}; "
                "`safmn -v train` shows where"
            ) from error
    best = record["best"]
    psnr = best["validation_psnr_rgb"]
    print(
        f"{args.network} x{args.scale} seed {args.seed}: {record['outcome']} after {record['seconds']:.0f} s; best at "
        f"iteration {best['iteration']}" + (f" with {psnr:.3f} dB RGB on validation" if psnr is not None else "")
    )
    return 0
