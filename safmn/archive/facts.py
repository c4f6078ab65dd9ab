"""What records say of device and time. A record of somebody else may hold anything."""

from collections.abc import Iterable, Mapping
from typing import Any

from safmn.device.description import describe


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance in a record; empty where there is no usable one."""
    return mapping(record.get("provenance"))


def seconds(record: Mapping[str, Any]) -> float:
    """Return the `seconds` in a record; 0 if they are not known."""
    value = record.get("seconds")
    return float(value) if isinstance(value, int | float) else 0.0


def differing(record: Mapping[str, Any], device: str, keys: Iterable[str]) -> str:
    """Say in which facts the device of a record differs from the device here; "" if in none.

    Args:
        record: with a provenance.
        device: "cpu" or "cuda".
        keys: facts of `safmn.device.description.describe`.
    """
    theirs, ours = of(record), describe(device)
    texts = [
        f"{key} {theirs.get(key)} archived, {ours.get(key)} here" for key in keys if theirs.get(key) != ours.get(key)
    ]
    return "; ".join(texts)
