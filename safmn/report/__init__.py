"""The paper's numbers beside the measured ones: cells, verdicts, tables, figures, and the page.

Where a number of the page is made, all from one `joined.Joined`:

- a published or measured number: a `Cell`, filled by `costs` (counts, memory, time) or `qualities` (PSNR, SSIM);
  `Cell.files` names the records below `results/<study>/` that it is read from, through `measured.Results`;
- a difference to the baseline, and the order of the rows: `ablation`;
- fields, marks and footnotes: `tables` (1 to 5), `ablation_table` (the table of variants), `own_tables`;
- the three sentences: `answer`; the lines below a table: `facts`; the claims: `sentences`; the figures: `figures`.
"""

from typing import Any

from safmn import lazy


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    return lazy.submodule(__name__, name)
