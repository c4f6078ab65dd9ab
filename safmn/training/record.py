"""The identity of a training run, and the files that it writes at the end: weights, history and run.json."""

from pathlib import Path
from typing import Any

from safmn import layout, provenance
from safmn.data.patches import PatchSampler
from safmn.device.description import describe
from safmn.files import write_json, write_text
from safmn.networks import weights
from safmn.training.kept import Kept


class Identity:
    """What distinguishes a run from every other: specification, code and data; and the part of this process in it.

    Args:
        specification: from `Study.specification`.
        data: digests of the images, in the order in which the specification names them.
        key: the digest that a saved state must match.
        device: "cuda" or "cpu".
    """

    def __init__(self, specification: dict[str, Any], data: list[str], key: str, device: str) -> None:
        self.specification = specification
        self.key = key
        self.label = f"{specification['network']} x{specification['scale']} seed {specification['seed']}"
        self._data = dict(zip(specification["train"] + specification["validation"], data, strict=True))
        self._device = device
        self._begun = provenance.begin()

    def session(self) -> dict[str, Any]:
        """Return device, code and start of this process."""
        return self._begun.session(describe(self._device))

    def provenance(self, sessions: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
        """Return the provenance of a run that these sessions did, in `seconds` altogether."""
        return self._begun.result(
            describe(self._device),
            specification=self.specification,
            data=self._data,
            seed=self.specification["seed"],
            started=sessions[0].get("started") if sessions else None,
            seconds=seconds,
        )


def leave(out: Path, identity: Identity, kept: Kept, sampler: PatchSampler) -> dict[str, Any]:
    """Write weights, history and run.json into `out`, the record last, and return the record."""
    best, last = kept.final()
    specification = identity.specification
    for which, tensors in zip(layout.WEIGHTS, (best["weights"], last["weights"], last["raw"]), strict=True):
        facts = {"network": specification["network"], "scale": str(specification["scale"]), "which": which}
        weights.save(tensors, out / layout.weights_file(which), facts)
    write_text(out / layout.HISTORY, kept.history.text())
    seconds = round(sum(each["seconds"] for each in kept.sessions), 3)
    record = {
        "outcome": "collapsed" if kept.collapse else "finished",
        "collapse": kept.collapse.record() if kept.collapse else None,
        "best": {"iteration": best["iteration"], "validation_psnr_rgb": best["psnr"]},
        "last": {"iteration": last["iteration"]},
        "specification": specification,
        "key": identity.key,
        "patches": {
            "images": len(sampler.names),
            "skipped": sampler.skipped,
            "bytes": sampler.bytes,
            "backend": sampler.backend,
        },
        "sessions": kept.sessions,
        "seconds": seconds,
        "provenance": identity.provenance(kept.sessions, seconds),
    }
    write_json(out / layout.RUN, record)
    return record
