"""Verify an archive in steps, from the cheap to the expensive; each says its cost before it begins, and its verdict.

Nothing of the archive is run, unless its own networks and losses are trusted: this code reads it. Steps that need
something which is not available say so.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safmn import provenance
from safmn.archive import reviews, whole
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, NOTED, REFUTED, UNDECIDED, Finding, Step
from safmn.archive.opening import Opened, opened
from safmn.archive.restoring import hidden, restored
from safmn.archive.steps import STEPS, Steps, Wishes
from safmn.data.archives import BadArchive
from safmn.errors import UserError, as_line

FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass
class Verification:
    """What was found in an archive.

    Attributes:
        archive: its name.
        seal: its seal; "" if it could not be read.
        study: the study's name; "" if it could not be read.
        steps: in order.
        facts: date, reviewer, device and code of the verifier.
        earlier: what reviews in the archive say, a sentence each.
    """

    archive: str
    seal: str = ""
    study: str = ""
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)

    @property
    def is_refuted(self) -> bool:
        """Whether something is not as the archive says."""
        return any(step.verdict == REFUTED for step in self.steps)

    def record(self) -> dict[str, Any]:
        """Return everything as plain data, with the paragraph for people."""
        steps = [step.record() for step in self.steps]
        head = {"format": FORMAT, "archive": self.archive, "seal": self.seal, "study": self.study}
        return {**head, **self.facts, "paragraph": self.paragraph(), "steps": steps, "earlier_reviews": self.earlier}

    def paragraph(self) -> str:
        """Say in one paragraph what was confirmed, by whom, where, and what was not and why."""
        who, where = self.facts.get("reviewer") or "somebody who is not named", self.facts.get("where", "")
        words = [
            f"The archive {self.archive} of the study {self.study or '(unknown)'}, seal {self.seal or 'unknown'}, was "
            f"verified by {who} on {str(self.facts.get('date'))[:10]} on {where}."
        ]
        for verdict, text in (
            (CONFIRMED, "Confirmed"),
            (REFUTED, "REFUTED"),
            (UNDECIDED, "Undecided"),
            (NOT_CHECKED, "Not checked"),
        ):
            of = [step for step in self.steps if step.verdict == verdict]
            if of:
                words.append(f"{text}: {'; '.join(_told(step) for step in of)}.")
        return " ".join(words)

    def text(self) -> str:
        """Return the report for people, as Markdown."""
        lines = [f"# Verification of {self.archive}", "", self.paragraph(), ""]
        lines += ["| step | verdict | findings | seconds |", "|---|---|---|---|"]
        lines += [f"| {s.name} | **{s.verdict}** | {s.counted() or '–'} | {s.seconds:.1f} |" for s in self.steps]
        for step in self.steps:
            lines += ["", f"## {step.name}", "", f"{step.asks.capitalize()} Expected: {step.cost}.", ""]
            lines += [f"- {finding.verdict}: {_plain(str(finding))}" for finding in step.findings]
        if self.earlier:
            lines += ["", "## Reviews in the archive", "", *(f"- {_plain(text)}" for text in self.earlier)]
        return "\n".join(lines) + "\n"


def _told(step: Step) -> str:
    """Name a step with its most important findings."""
    worst = [finding for finding in step.findings if finding.verdict == step.verdict]
    if step.verdict == CONFIRMED:
        return f"{step.name} ({step.counted()})"
    shown = "; ".join(_plain(str(finding)) for finding in worst[:3])
    more = f"; and {len(worst) - 3} more" if len(worst) > 3 else ""
    return f"{step.name} ({shown}{more})"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


Watch = Callable[[Step], None]


def verify(path: Path | str, wishes: Wishes, scratch: Path, before: Watch, after: Watch) -> Verification:
    """Verify an archive.

    Args:
        path: a zip file or a folder.
        wishes: which steps, and what they need.
        scratch: an empty folder for what is packed, rendered and trained anew.
        before: called with each step before it begins, to say its cost.
        after: called with each step that is done.

    Raises:
        UserError: there is no such file, or a wish cannot be fulfilled.
    """
    path = Path(path)
    found = Verification(path.absolute().name, facts=_facts(wishes))
    try:
        with opened(path) as archive, _trusted(archive, wishes, scratch / "project") as notes:
            _run(archive, wishes, scratch, found, notes, before, after)
    except BadArchive as error:
        # Refused, or too damaged to go on: that is what the first step is for.
        first = next((step for step in found.steps if step.name == "whole"), None)
        if first is None:
            first = Step("whole", STEPS["whole"], "seconds")
            before(first)
            found.steps.insert(0, first)
        first.findings.append(Finding("archive", REFUTED, as_line(error)))
        after(first)
        done = {step.name for step in found.steps}
        reason = Finding("archive", NOT_CHECKED, "it is refused or damaged")
        found.steps += [Step(name, STEPS[name], "nothing", [reason]) for name in wishes.steps if name not in done]
    return found


@contextmanager
def _trusted(archive: Opened, wishes: Wishes, project: Path) -> Iterator[list[Finding]]:
    """Let the archive's own networks and losses be found, if that is wished; UserError if a file was changed.

    Yields:
        What is to be said about it.
    """
    if not wishes.trust_code:
        yield []
        return
    wrong = [finding for finding in (*whole.seal(archive), *whole.files(archive)) if finding.verdict == REFUTED]
    if wrong:
        raise UserError(f"{archive.path} is damaged ({wrong[0]}): its code is not run; leave --trust-code out")
    with restored(archive, project):
        note = "it is not run: the harness here has another file of this name, which is used"
        yield [Finding(name, NOTED, note) for name in hidden(archive)]


def _run(
    archive: Opened,
    wishes: Wishes,
    scratch: Path,
    found: Verification,
    notes: list[Finding],
    before: Watch,
    after: Watch,
) -> None:
    found.seal = archive.seals[1]
    found.study = archive.results.name
    steps = Steps(archive, wishes, scratch)
    for name in wishes.steps:
        cost, work = steps.of(name)
        step = Step(name, STEPS[name], cost)
        step.findings += [] if found.steps else notes
        found.steps.append(step)
        before(step)
        began = time.monotonic()
        try:
            step.findings += work()
        except BadArchive:
            raise
        except UserError as error:
            step.findings.append(Finding(name, NOT_CHECKED, as_line(error)))
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            _log.debug("%s:", name, exc_info=True)  # records of somebody else may hold anything
            step.findings.append(Finding(name, UNDECIDED, f"a record of the archive is damaged ({as_line(error)})"))
        step.seconds = time.monotonic() - began
        after(step)
    found.earlier = reviews.sentences(archive)


def _facts(wishes: Wishes) -> dict[str, Any]:
    """Return who verifies, when, where, and with which code."""
    from safmn.device.description import describe

    device = describe(wishes.device)
    kind = device.get("gpu") or f"a CPU ({device['cpu']}, {device['threads']} threads)"
    where = f"{kind}, {device['os']}, Python {device['python']}, torch {device['torch']}"
    code = provenance.code()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "reviewer": wishes.reviewer,
        "where": where,
        "device": device,
        "code": {key: code[key] for key in ("code_version", "code_commit", "code_dirty", "code_sha256")},
    }
