"""One training run, from its first iteration or its saved state to its final weights."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from safmn import layout, networks
from safmn.data.packed import PackedPairs
from safmn.data.patches import PatchSampler
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line
from safmn.files import remove_strays
from safmn.networks import parameters, trial
from safmn.progress import Progress, Task
from safmn.schema import PAPER, RunSettings
from safmn.training import capture, forms, luma, randomness, record, schedule, validation
from safmn.training.collapse import Collapse
from safmn.training.history import Scalars
from safmn.training.identity import key_of
from safmn.training.kept import Kept
from safmn.training.state import StateFolder
from safmn.training.stopping import Interrupted, stop_signals

_log = logging.getLogger(__name__)
LOOK_EVERY = 100  # iterations; not a setting, since a collapsed run ends with the weights of its last good check
WRITTEN = (*map(layout.weights_file, layout.WEIGHTS), layout.HISTORY, layout.RUN, layout.FAILURE)


class Training:
    """One run: its state, its data, and what happens at each iteration.

    Args:
        specification: from `Study.specification`.
        train: packed pairs, as the specification names them.
        validate: likewise.
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
        run_settings: RunSettings,
        device: torch.device,
    ) -> None:
        self.settings = specification["training"]
        self.run_settings = run_settings
        self.out = out
        self.total = self.settings["iterations"]
        self.scale = specification["scale"]
        data = [packed.fingerprint for packed in train + validate]
        self.identity = record.Identity(specification, data, key_of(specification, data), device.type)
        configure(device, self.settings)
        randomness.seed_everything(specification["seed"])
        # Always built on the CPU, so that the initial weights do not depend on the device.
        network = networks.accelerate(networks.build(specification["network"], self.scale))
        self.kept = Kept(forms.step(network, self.settings, device))
        info = networks.info(specification["network"])
        self.learn = capture.as_asked(self.kept.step, run_settings, info.channels)
        self.sampler = PatchSampler(
            train,
            self.settings["batch"],
            self.settings["patch"],
            self.scale,
            specification["seed"],
            device,
            self.settings["draw"],
            small=self.settings["small_images"],
            augment=self.settings.get("augment", PAPER["augment"]),
        )
        self.batch = luma.batches(self.sampler, info.colour)
        self.colour = info.colour
        self.pairs = [(packed.lr(i), packed.hr(i)) for packed in validate for i in range(len(packed))]

    def run(self, states: StateFolder, should_stop: Callable[[], int | None]) -> None:
        """Train to the end or to a collapse; raise Interrupted when `should_stop` returns the number of a signal."""
        kept = self.kept
        began, start, earlier = time.monotonic(), kept.iteration, kept.sessions
        where = self.identity.session()

        def save() -> None:
            # One record for each process: its iterations, seconds, code and device.
            done = {"from": start, "to": kept.iteration, "seconds": round(time.monotonic() - began, 3)}
            kept.sessions = [*earlier, done | where] if kept.iteration > start else earlier
            states.save(kept.iteration, kept.state())

        progress = Progress(unit="it", interval=5.0).task(self.identity.label, start)
        scalars = Scalars(self.out / layout.SCALARS, start)
        saved = began
        try:
            while kept.iteration < self.total and kept.collapse is None:
                kept.pending.append(self.learn(kept.iteration, *self.batch(kept.iteration)))
                kept.iteration += 1
                if self._is_due(LOOK_EVERY, self.settings["validate_every"], self.run_settings.log_every):
                    self._look(progress, scalars)
                number = should_stop()
                if number is not None or time.monotonic() - saved >= self.run_settings.save_every:
                    save()
                    saved = time.monotonic()
                if number is not None and kept.iteration < self.total and kept.collapse is None:
                    raise Interrupted(kept.iteration, number)
        finally:
            self.sampler.close()
            scalars.close()
        save()

    def _is_due(self, *every: int) -> bool:
        return self.kept.iteration == self.total or any(self.kept.iteration % each == 0 for each in every)

    def _look(self, progress: Task, scalars: Scalars) -> None:
        """Read the losses since the last check (the only wait for the device), validate, keep the best weights.

        If only a line of the history is due, no weights are kept: `run.log_every` must not change a result.
        """
        kept = self.kept
        rows = torch.stack(kept.pending).cpu().double().tolist()
        first = kept.iteration - len(rows) + 1
        kept.pending = []
        kept.unwritten += rows
        for offset, (*terms, norm) in enumerate(rows):
            kept.collapse = kept.watch.look(first + offset, terms, norm)
            if kept.collapse is not None:
                break
        psnr = None
        if kept.collapse is None and self._is_due(LOOK_EVERY, self.settings["validate_every"]):
            psnr = self._keep(sum(terms), norm)
        *terms, norm = torch.tensor(kept.unwritten, dtype=torch.float64).mean(0).tolist()
        means = dict(zip(kept.step.loss.names, terms, strict=True))
        notes = {**{name.removesuffix("_loss"): value for name, value in means.items()}, "psnr": psnr}
        note = "  ".join(f"{name} {value:.4g}" for name, value in notes.items() if value is not None)
        progress(kept.iteration, self.total, note)
        if kept.collapse is None and not self._is_due(self.settings["validate_every"], self.run_settings.log_every):
            return
        kept.unwritten = []
        rate = schedule.rate_of(self.settings, kept.iteration - 1)
        values = {"learning_rate": rate, **means, "gradient_norm": norm, "validation_psnr_rgb": psnr}
        kept.history.add(iteration=kept.iteration, **values)
        scalars.add(kept.iteration, **values)

    def _keep(self, total_loss: float, norm: float) -> float | None:
        """Validate if that is due, keep the current weights if they are good, and return their PSNR if measured.

        Weights can overflow in a step whose loss and gradients are finite: that is a collapse as well.
        """
        average, raw = self.kept.weights()
        psnr = None
        finite = all(bool(value.isfinite().all()) for value in (*average.values(), *raw.values()))
        if finite and self._is_due(self.settings["validate_every"]):
            measure = validation.rgb_psnr_of_luma if self.colour == "Y" else validation.rgb_psnr
            psnr = measure(self.kept.step.average.network, self.pairs, self.scale)
        if not finite or (psnr is not None and not math.isfinite(psnr)):
            what = "validation PSNR is" if finite else "weights are"
            self.kept.collapse = Collapse(self.kept.iteration, f"the {what} not finite", total_loss, norm)
            return None
        self.kept.keep(average, raw, psnr)
        return psnr


def train(
    specification: dict[str, Any],
    train: list[PackedPairs],
    validate: list[PackedPairs],
    out: Path,
    run_settings: RunSettings,
    *,
    device: torch.device | None = None,
    restart: bool = False,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """Train one run, resuming from a state in `out`; return the record that is also `out`/run.json.

    Args:
        specification: from `Study.specification`.
        train: packed pairs, as the specification names them.
        validate: likewise.
        out: the folder for best.safetensors, last.safetensors (both averaged weights), last_raw.safetensors (not
            averaged), history.csv, run.json, and `state/` while it runs.
        run_settings: the study's `run` section.
        device: cuda if there is one, else cpu, by default.
        restart: whether to set saved states aside and start anew.
        time_limit: seconds after which the run saves and stops, as after SIGUSR1.

    Raises:
        Interrupted: asked to stop by SIGTERM, SIGINT, SIGUSR1 or the time limit; the state is saved.
        UserError: data, specification or folder cannot be used.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _check_trainable(specification)
    _check_disjoint(train, validate)
    training = Training(specification, train, validate, out, run_settings, device)
    states = StateFolder(out / layout.STATE, training.identity.key)
    states.acquire()
    try:
        for name in WRITTEN:
            remove_strays(out / name)
        if restart:
            states.set_aside()
        iteration, state, remarks = states.load()
        for remark in remarks:
            _log.warning("%s: %s", out, remark)
        if state:
            try:
                training.kept.restore(iteration, state)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise UserError(
                    f"{states.folder} has a state that does not fit ({as_line(error)}): start anew with --restart"
                ) from error
            _log.info("%s: resuming from iteration %d of %d", out, iteration, training.total)
        with stop_signals(time_limit) as should_stop:
            training.run(states, should_stop)
        return record.leave(out, training.identity, training.kept, training.sampler)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        batch, patch = training.settings["batch"], training.settings["patch"]
        raise UserError(
            f"{specification['network']}: {batch} patches of {patch}x{patch} do not fit the memory: lower "
            f"training.batch, or see `safmn memory {specification['network']} --training` ({as_line(error)})"
        ) from error
    finally:
        states.release()


def configure(device: torch.device, settings: dict[str, Any]) -> None:
    """Set what decides the bits of a result: threads, precision, deterministic kernels.

    On CUDA, the gradient of max pooling is summed in no fixed order. If the side of an LR patch is a multiple of 8, the
    pooling regions do not overlap, so that there is nothing to sum and the result does not depend on the order.
    """
    torch.set_num_threads(settings["threads"])
    if settings["precision"] == "tf32" and device.type != "cuda":
        _log.warning("tf32 exists on CUDA only; this CPU run is in float32")
    tf32 = settings["precision"] == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _check_trainable(specification: dict[str, Any]) -> None:
    name = specification["network"]
    if networks.info(name).is_own:
        trial.check(name, specification["scale"])
    network = trial.built(name, specification["scale"])
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{name} has no parameters to train")
    parameters.check_real(network, networks.defined_in(name))


def _check_disjoint(train: list[PackedPairs], validate: list[PackedPairs]) -> None:
    """Refuse validation images that are also training images, by content, so that copies are found too."""
    seen = {value for packed in train for value in packed.sha256}
    for packed in validate:
        for name, value in zip(packed.names, packed.sha256, strict=True):
            if value in seen:
                raise UserError(
                    f"data.validation: image {name} is in the training data too: remove it from one of them"
                )
