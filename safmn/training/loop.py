"""One training run from its first iteration, or from where it was killed, to its weights."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from safmn import networks, provenance
from safmn.data.packed import PackedPairs
from safmn.data.patches import PatchSampler
from safmn.device import description as hardware
from safmn.errors import UserError
from safmn.files import remove_strays, write_json
from safmn.networks import weights
from safmn.training import randomness, schedule, validation
from safmn.training.capture import CapturedStep
from safmn.training.collapse import Collapse, CollapseWatch
from safmn.training.history import History, Progress, Scalars
from safmn.training.identity import key_of
from safmn.training.state import StateFolder
from safmn.training.step import TrainStep

LOOK_EVERY = 100  # iterations between looks at the losses, at most; fixed, since a collapse leaves a look's weights
WRITTEN = ("best.safetensors", "last.safetensors", "last_raw.safetensors", "history.csv", "run.json", "failure.txt")


class Interrupted(Exception):
    """The run was asked to stop; its state is saved and the same command goes on from there."""

    def __init__(self, iteration: int, number: int) -> None:
        super().__init__(f"stopped at iteration {iteration}; the state is saved, run the same command to go on")
        self.number = number


class Training:
    """The state of one run and what happens at its iterations.

    Args:
        specification: from `Study.specification`.
        train, validate: packed pairs, as the specification names them.
        out: the run's folder.
        run_settings: the study's `run` section.
        device: "cuda" or "cpu".
    """

    def __init__(
        self,
        specification: dict[str, Any],
        train: list[PackedPairs],
        validate: list[PackedPairs],
        out: Path,
        run_settings: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.specification = specification
        self.settings = specification["training"]
        self.run_settings = run_settings
        self.out = out
        self.total = self.settings["iterations"]
        self.scale = specification["scale"]
        self.begun = provenance.begin()
        data = [store.fingerprint for store in train + validate]
        self.data = dict(zip(specification["train"] + specification["validation"], data, strict=True))
        self.key = key_of(specification, data)
        configure(device, self.settings)
        randomness.seed_everything(specification["seed"])
        # Built on the CPU in every case: the initial weights do not depend on the device.
        network = networks.build(specification["network"], self.scale)
        self.step = TrainStep(network, self.settings, device)
        self.learn = CapturedStep(self.step) if run_settings["cuda_graph"] and device.type == "cuda" else self.step
        self.sampler = PatchSampler(
            train,
            self.settings["batch"],
            self.settings["patch"],
            self.scale,
            specification["seed"],
            device,
            small=self.settings["small_images"],
        )
        self.pairs = [(store.lr(i), store.hr(i)) for store in validate for i in range(len(store))]
        self.watch = CollapseWatch()
        self.history = History()
        self.iteration = 0
        # One row of (l1, frequency, gradient norm) an iteration: not yet looked at, and not yet in the history.
        self.pending: list[Tensor] = []
        self.unwritten: list[list[float]] = []
        self.best: dict[str, Any] = {"iteration": 0, "psnr": None, "weights": self._average()}
        self.sound: dict[str, Any] = {"iteration": 0, "weights": self._average(), "raw": self._raw()}
        self.collapse: Collapse | None = None
        self.sessions: list[dict[str, Any]] = []

    # --- the loop ---

    def run(self, states: StateFolder, should_stop: Callable[[], int | None]) -> None:
        """Trains to the end or to a collapse; raises Interrupted when `should_stop` returns a number."""
        began, start, earlier = time.monotonic(), self.iteration, self.sessions
        where = self.begun.session(hardware.describe(self.step.device.type))

        def save() -> None:
            # One entry a process: what it did of the run, with what code, on what device, and how fast.
            done = {"from": start, "to": self.iteration, "seconds": round(time.monotonic() - began, 3)}
            self.sessions = [*earlier, done | where] if self.iteration > start else earlier
            states.save(self.iteration, self.state())

        label = f"{self.specification['network']} x{self.scale} seed {self.specification['seed']}"
        progress = Progress(label, self.total, start)
        scalars = Scalars(self.out / "tensorboard", start)
        saved = began
        try:
            while self.iteration < self.total and self.collapse is None:
                self.pending.append(self.learn(self.iteration, *self.sampler.batch(self.iteration)))
                self.iteration += 1
                if self._is_due(LOOK_EVERY, self.settings["validate_every"], self.run_settings["log_every"]):
                    self._look(progress, scalars)
                number = should_stop()
                if number is not None or time.monotonic() - saved >= self.run_settings["save_every"]:
                    save()
                    saved = time.monotonic()
                if number is not None and self.iteration < self.total and self.collapse is None:
                    raise Interrupted(self.iteration, number)
        finally:
            self.sampler.close()
            scalars.close()
        save()

    def _is_due(self, *every: int) -> bool:
        return self.iteration == self.total or any(self.iteration % each == 0 for each in every)

    def _look(self, progress: Progress, scalars: Scalars) -> None:
        """Reads the losses since the last look (the only wait for the device), validates, keeps what is best and sound.

        Where it is due for the history alone, nothing is kept: how often one logs must not change a result.
        """
        rows = torch.stack(self.pending).cpu().double().tolist()
        first = self.iteration - len(rows) + 1
        self.pending = []
        self.unwritten += rows
        for offset, (l1, frequency, norm) in enumerate(rows):
            self.collapse = self.watch.look(first + offset, l1, frequency, norm)
            if self.collapse is not None:
                break
        psnr = None
        if self.collapse is None and self._is_due(LOOK_EVERY, self.settings["validate_every"]):
            psnr = self._keep(l1 + frequency, norm)
        l1, frequency, norm = torch.tensor(self.unwritten, dtype=torch.float64).mean(0).tolist()
        progress.tell(self.iteration, l1=l1, fft=frequency, psnr=psnr)
        if self.collapse is None and not self._is_due(self.settings["validate_every"], self.run_settings["log_every"]):
            return
        self.unwritten = []
        rate = schedule.learning_rate(
            self.iteration - 1, self.total, self.settings["learning_rate"], self.settings["minimum_learning_rate"]
        )
        values = {"l1_loss": l1, "fft_loss": frequency, "gradient_norm": norm, "validation_psnr_rgb": psnr}
        self.history.add(iteration=self.iteration, learning_rate=rate, **values)
        scalars.add(self.iteration, learning_rate=rate, **values)

    def _keep(self, total_loss: float, norm: float) -> float | None:
        """Keeps the present weights as sound and, if they validate best, as best; their PSNR if it was measured.

        Weights can overflow in a step whose loss and gradients were finite, as the last one's were: a collapse, too.
        """
        average, raw, psnr = self._average(), self._raw(), None
        finite = all(bool(value.isfinite().all()) for value in (*average.values(), *raw.values()))
        if finite and self._is_due(self.settings["validate_every"]):
            psnr = validation.rgb_psnr(self.step.average.network, self.pairs, self.scale)
        if not finite or (psnr is not None and not math.isfinite(psnr)):
            what = "validation PSNR is" if finite else "weights are"
            self.collapse = Collapse(self.iteration, f"the {what} not finite", total_loss, norm)
            return None
        if self.watch.sound:
            self.sound = {"iteration": self.iteration, "weights": average, "raw": raw}
            if psnr is not None and (self.best["psnr"] is None or psnr > self.best["psnr"]):
                self.best = {"iteration": self.iteration, "psnr": psnr, "weights": average}
        return psnr

    def _average(self) -> dict[str, Tensor]:
        return _copied(self.step.average.network)

    def _raw(self) -> dict[str, Tensor]:
        return _copied(self.step.network)

    # --- what is kept ---

    def state(self) -> dict[str, Any]:
        """Everything that the next iteration and the final files depend on, as tensors and plain data."""
        return {
            "step": self.step.state(),
            "randomness": randomness.state(),
            "watch": self.watch.state(),
            "history": self.history.rows,
            "pending": torch.stack(self.pending).cpu() if self.pending else torch.empty(0, 3),
            "unwritten": self.unwritten,
            "best": self.best,
            "sound": self.sound,
            "collapse": self.collapse.record() if self.collapse else None,
            "sessions": self.sessions,
        }

    def restore(self, iteration: int, state: dict[str, Any]) -> None:
        """Continues after `iteration` iterations from what `state` returned."""
        self.iteration = iteration
        self.step.restore(state["step"])
        randomness.restore(state["randomness"])
        self.watch.restore(state["watch"])
        self.history = History(state["history"])
        self.pending = list(state["pending"].to(self.step.device))
        self.unwritten = state["unwritten"]
        self.best = state["best"]
        self.sound = state["sound"]
        self.collapse = Collapse(**state["collapse"]) if state["collapse"] else None
        self.sessions = state["sessions"]

    def write(self) -> dict[str, Any]:
        """Writes weights, history and run.json, the record last; returns the record."""
        last = {"iteration": self.iteration, "weights": self._average(), "raw": self._raw()}
        if self.collapse:
            last = self.sound
        if self.best["psnr"] is None:  # collapsed before the first validation, or never sound at one
            self.best = {"psnr": None, **self.sound}
        name = self.specification["network"]
        kept = {"best": self.best["weights"], "last": last["weights"], "last_raw": last["raw"]}
        for which, tensors in kept.items():
            facts = {"network": name, "scale": str(self.scale), "which": which}
            weights.save(tensors, self.out / f"{which}.safetensors", facts)
        self.history.write(self.out / "history.csv")
        seconds = round(sum(each["seconds"] for each in self.sessions), 3)
        record = {
            "outcome": "collapsed" if self.collapse else "finished",
            "collapse": self.collapse.record() if self.collapse else None,
            "best": {"iteration": self.best["iteration"], "validation_psnr_rgb": self.best["psnr"]},
            "last": {"iteration": last["iteration"]},
            "specification": self.specification,
            "key": self.key,
            "patches": {
                "images": len(self.sampler.names),
                "skipped": self.sampler.skipped,
                "bytes": self.sampler.bytes,
                "store": self.sampler.backend,
            },
            "sessions": self.sessions,
            "seconds": seconds,
            "provenance": self.begun.result(
                hardware.describe(self.step.device.type),
                specification=self.specification,
                data=self.data,
                seed=self.specification["seed"],
                started=self.sessions[0].get("started") if self.sessions else None,
                seconds=seconds,
            ),
        }
        write_json(self.out / "run.json", record)
        return record


def train(
    specification: dict[str, Any],
    train: list[PackedPairs],
    validate: list[PackedPairs],
    out: Path,
    run_settings: dict[str, Any],
    *,
    device: torch.device | None = None,
    restart: bool = False,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """Trains one run, resuming what it finds in `out`; returns the record that is also `out`/run.json.

    Args:
        specification: from `Study.specification`.
        train, validate: packed pairs, as the specification names them.
        out: gets best.safetensors, last.safetensors (both averaged weights), last_raw.safetensors (not averaged),
            history.csv and run.json, and `state/` while it runs.
        run_settings: the study's `run` section.
        device: default cuda if there is one, else cpu.
        restart: sets saved states aside and starts anew.
        time_limit: seconds after which it saves and stops as if it had been told to (SIGUSR1).

    Raises:
        Interrupted: asked to stop by SIGTERM, SIGINT, SIGUSR1 or the time limit; the state is saved.
        UserError: data, specification or folder are not usable.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _check_trainable(specification)
    _check_disjoint(train, validate)
    training = Training(specification, train, validate, out, run_settings, device)
    states = StateFolder(out / "state", training.key)
    states.acquire()
    try:
        for name in WRITTEN:
            remove_strays(out / name)
        if restart:
            states.set_aside()
        iteration, state, remarks = states.load()
        for remark in remarks:
            print(f"{out}: {remark}", file=sys.stderr)
        if state:
            try:
                training.restore(iteration, state)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise UserError(
                    f"{states.folder} has a state that does not fit ({reason}): start anew with --restart"
                ) from error
            print(f"{out}: going on from iteration {iteration} of {training.total}", file=sys.stderr)
        with _stop_signals(time_limit) as should_stop:
            training.run(states, should_stop)
        return training.write()
    except (MemoryError, RuntimeError) as error:
        if not hardware.ran_out_of_memory(error):
            raise
        batch, patch = training.settings["batch"], training.settings["patch"]
        raise UserError(
            f"{specification['network']}: {batch} patches of {patch}x{patch} do not fit the memory: lower "
            f"training.batch, or see `safmn memory {specification['network']} --training`"
        ) from error
    finally:
        states.release()


def configure(device: torch.device, settings: dict[str, Any]) -> None:
    """Sets what decides the bits of a result: threads, precision, deterministic kernels.

    Max pooling's backward adds with atomics on CUDA, but its regions do not overlap when 8 divides the patch, so each
    sum has one term and its order cannot matter.
    """
    torch.set_num_threads(settings["threads"])
    if settings["precision"] == "tf32" and device.type != "cuda":
        print("tf32 exists on CUDA only; this CPU run is in float32", file=sys.stderr)
    tf32 = settings["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


def _check_trainable(specification: dict[str, Any]) -> None:
    name = specification["network"]
    if networks.info(name).colour != "RGB":
        raise UserError(f"{name} works on Y alone: only networks that take RGB are trained here")
    with torch.device("meta"):
        if not any(True for _ in networks.build(name, specification["scale"]).parameters()):
            raise UserError(f"{name} has no parameters: there is nothing to train")


def _check_disjoint(train: list[PackedPairs], validate: list[PackedPairs]) -> None:
    """Weights chosen on images that were trained on say nothing; compares contents, so a copy is found too."""
    seen = {value for store in train for value in store.sha256}
    for store in validate:
        for name, value in zip(store.names, store.sha256, strict=True):
            if value in seen:
                raise UserError(
                    f"data.validation: image {name} is in the training data too: take it out of one of them"
                )


@contextmanager
def _stop_signals(time_limit: float | None) -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the signal's number once the run should stop, else None."""
    received: list[int] = []
    deadline = None if time_limit is None else time.monotonic() + time_limit

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    def should_stop() -> int | None:
        if deadline is not None and time.monotonic() >= deadline:
            return signal.SIGUSR1
        return received[0] if received else None

    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
