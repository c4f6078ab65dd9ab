"""Render a Table as Markdown, LaTeX and CSV. Labels and notes may be any text: every special character is escaped."""

import re
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from safmn.errors import one_line
from safmn.report.grids import Entry, Header, Section, Table

# Characters that mean something in Markdown; an underscore within a word and a bracket without a link do not.
MARKDOWN_SPECIAL = re.compile(r"([\\`*<|~$&]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[]))")
MARKDOWN_LEADING = re.compile(r"^([0-9]*)([.)](?=\s)|[#>]|[+-](?=\s))")

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "→": r"$\rightarrow$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "—": "---",
    "†": r"$\dagger$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "○": r"$\circ$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "△": r"$\triangle$",
    "▽": r"$\triangledown$",
}

PREAMBLE = """\
% Made by `safmn tables`. The document needs
%   \\usepackage[T1]{fontenc} \\usepackage{booktabs} \\usepackage{graphicx} \\usepackage{amssymb}
"""


def markdown(table: Table) -> str:
    """Render a table as GitHub's Markdown, readable in a terminal too."""
    parts = [f"# {escape_markdown(table.title)}"]
    parts += ["", escape_markdown(table.summary)] if table.summary else []
    for section in table.sections:
        parts += ["", f"## {escape_markdown(section.title)}"] if section.title else []
        parts += ["", _markdown_grid(section)]
    if not table.sections:
        parts += ["", "The study includes no row of this table."]
    if table.legend:
        legend = (f"{escape_markdown(sign)} {escape_markdown(text)}" for sign, text in table.legend)
        parts += ["", "; ".join(legend) + "."]
    if table.footnotes:
        parts += ["", *(f"{number}. {_list_item(text)}" for number, text in enumerate(table.footnotes, 1))]
    if table.facts:
        parts += ["", *(f"- {_list_item(fact)}" for fact in table.facts)]
    return "\n".join(parts) + "\n"


def latex(table: Table) -> str:
    r"""Render a table as LaTeX with booktabs, for \input in a document."""
    parts = [PREAMBLE + r"\begin{table*}[t]", r"\centering\scriptsize", r"\setlength{\tabcolsep}{3pt}"]
    parts.append(rf"\caption{{{escape_latex('. '.join(filter(None, (table.caption, table.summary))))}}}")
    parts.append(rf"\label{{tab:safmn-{table.name or table.number}}}")
    for section in table.sections:
        title = rf"\par\smallskip\textbf{{{escape_latex(section.title)}}}\par\smallskip"
        parts += [*[title] * bool(section.title), _latex_grid(section)]
    if not table.sections:
        parts.append("The study includes no row of this table.")
    notes = [f"{escape_latex(sign)} {escape_latex(text)}." for sign, text in table.legend]
    notes += [rf"\textsuperscript{{{n}}} {escape_latex(text)}." for n, text in enumerate(table.footnotes, 1)]
    notes += [escape_latex(fact) for fact in table.facts]
    if notes:
        parts += [r"\par\smallskip\begin{minipage}{\textwidth}\scriptsize", " ".join(notes), r"\end{minipage}"]
    parts.append(r"\end{table*}")
    return "\n".join(parts) + "\n"


def html(template: Path, **values: Any) -> str:
    """Fill in a template of a page; all text is escaped, and its filter `code` puts `commands` into <code>."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = _with_code
    return environment.get_template(template.name).render(**values)


def _with_code(text: str) -> Any:
    """Put the `commands` of a text into <code>, and escape everything."""
    from markupsafe import Markup, escape

    pieces = re.split("`([^`]+)`", text)
    marked = (Markup("<code>{}</code>").format(piece) if odd % 2 else escape(piece) for odd, piece in enumerate(pieces))
    return Markup("").join(marked)


def escape_markdown(text: str) -> str:
    """Escape text for Markdown, in a table's field too; `code` in notes stays code where it is harmless."""
    pieces = re.split(r"(`[A-Za-z0-9_ ./:=\[\]-]+`)", one_line(text))
    return "".join(piece if index % 2 else MARKDOWN_SPECIAL.sub(r"\\\1", piece) for index, piece in enumerate(pieces))


def _list_item(text: str) -> str:
    """Escape text at the start of a list item, where # or - would begin something else."""
    return MARKDOWN_LEADING.sub(
        lambda start: f"{start[0]}&#8203;" if start[0].isdigit() else f"\\{start[0]}", escape_markdown(text)
    )


def escape_latex(text: str) -> str:
    """Escape text for pdfLaTeX; letters that its fonts do not have become their code point."""
    return "".join(_latex_letter(sign) for sign in unicodedata.normalize("NFC", " ".join(text.split())))


def _latex_letter(sign: str) -> str:
    if sign in LATEX_SPECIAL:
        return LATEX_SPECIAL[sign]
    if sign.isascii():
        return sign if sign.isprintable() else ""
    if sign.isalpha() and ord(sign) < 0x180:  # Latin letters with accents, which T1 fonts have
        return sign
    return f"[U+{ord(sign):04X}]"


def _markdown_grid(section: Section) -> str:
    headers = [escape_markdown(" ".join(part for part in header if part)) for header in section.headers]
    rows = [[_markdown_entry(entry) for entry in row] for row in section.rows]
    labels = sum(entry.header for entry in section.rows[0]) if section.rows else 0
    align = ["left"] * labels + ["right"] * (len(headers) - labels)
    frame = pd.DataFrame(rows, columns=pd.Index(headers))
    return str(frame.to_markdown(index=False, disable_numparse=True, colalign=align if rows else None))


def _markdown_entry(entry: Entry) -> str:
    footnote = f"[{entry.footnote}]" if entry.footnote else ""
    name = f"`{entry.name}`" if entry.name else ""
    text = escape_markdown(entry.text)
    if entry.place and text:
        text = f"**{text}**" if entry.place == 1 else f"<u>{text}</u>"
    return " ".join(part for part in (text, name, escape_markdown(entry.symbol), footnote) if part)


def _latex_grid(section: Section) -> str:
    labels = sum(entry.header for entry in section.rows[0]) if section.rows else 0
    count = len(section.headers)
    lines = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{tabular}}{{{'l' * labels + 'r' * (count - labels)}}}", r"\toprule"]
    groups = spans(section.headers)
    if any(name for name, _, _ in groups):
        lines.append(
            " & ".join(rf"\multicolumn{{{stop - start}}}{{c}}{{{escape_latex(name)}}}" for name, start, stop in groups)
            + r" \\"
        )
        lines.append("".join(rf"\cmidrule(lr){{{start + 1}-{stop}}}" for name, start, stop in groups if name))
    lines += [" & ".join(escape_latex(what) for _, what in section.headers) + r" \\", r"\midrule"]
    group = None
    for row in section.rows:
        if section.grouped and row[0].text != group:
            lines += [r"\midrule"] if group is not None else []
            group, first = row[0].text, row[0]
        else:
            first = Entry("") if section.grouped else row[0]
        lines.append(" & ".join(_latex_entry(entry) for entry in (first, *row[1:])) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}"])


def _latex_entry(entry: Entry) -> str:
    footnote = rf"\textsuperscript{{{entry.footnote}}}" if entry.footnote else ""
    text = escape_latex(entry.text)
    if not entry.header:
        text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
    if entry.place and text:
        text = rf"\{'textbf' if entry.place == 1 else 'underline'}{{{text}}}"
    text = " ".join(part for part in (text, escape_latex(entry.symbol)) if part)
    # A field that begins with [ would be read as an argument of the \\ before it.
    return (f"{{}}{text}" if text.startswith(("[", "*")) else text) + footnote


def spans(headers: list[Header]) -> list[tuple[str, int, int]]:
    """Group neighbouring columns of one quantity: (name, first, one past the last); labels have the name ""."""
    groups = []
    for name, columns in groupby(enumerate(headers), key=lambda column: column[1][0]):
        places = [place for place, _ in columns]
        groups.append((name, places[0], places[-1] + 1))
    return groups
