"""MkDocs hooks: pages from files outside of docs/, the reference of commands, and links that work on the site.

README.md and other Markdown files of the repository are pages of the site as they are. Their links are relative to the
repository; here they are turned into links between pages. A link to a file that is no page becomes plain text.
"""

import argparse
import json
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.cli import COMMANDS, command

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "CONTRIBUTING.md": "contributing.md",
    "tests/README.md": "tests.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the repository -> page of the site."""
NOTEBOOK = "docs/notebook.ipynb"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "notebook.md", content=notebook()))
    return files


def notebook() -> str:
    """Return the notebook as a page: its text, its code and the outputs that it was committed with."""
    parts = []
    for cell in json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            text = "".join(output.get("text") or data.get("text/html") or data["text/plain"])
            parts.append(text if "text/html" in data else f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Turn the links of a page into links of the site."""
    path = page.file.src_uri
    source = next((source for source, target in PAGES.items() if target == path), f"docs/{path}")
    return LINK.sub(lambda match: _link(match, source, path), markdown)


def _link(match: re.Match[str], source: str, page: str) -> str:
    image, text, target = match.groups()
    if re.match(r"[a-z]+:|#", target):
        return match[0]
    path, _, anchor = target.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    on_site = PAGES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
    if on_site is None:
        return text
    relative = posixpath.relpath(on_site, posixpath.dirname(page) or ".")
    return f"{image}[{text}]({relative}{'#' + anchor if anchor else ''})"


def commands() -> str:
    """The page about the command line, in Markdown, from each command's parser."""
    os.environ["COLUMNS"] = "80"  # where argparse breaks the lines of a usage
    about = "Written from `safmn COMMAND --help`. `safmn COMMAND ... then COMMAND ...` runs several in one process."
    return "\n\n".join(["# Commands", about, *map(_command, COMMANDS), ""])


def _command(name: str) -> str:
    module = command(name)
    parser = argparse.ArgumentParser(prog=f"safmn {name}", add_help=False)
    module.configure(parser)
    options = [_option(action) for action in parser._actions if action.help != argparse.SUPPRESS]
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    return "\n\n".join(
        [
            f"## {name}",
            "\n\n".join(_plain(paragraph) for paragraph in module.HELP.split("\n\n")),
            f"```text\n{usage}\n```",
            "\n".join(options),
            f"```text\n{module.EXAMPLES.strip()}\n```",
        ]
    )


def _option(action: argparse.Action) -> str:
    metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = "" if action.nargs == 0 else f" {metavar}"
    names = ", ".join(f"`{name}{value}`" for name in action.option_strings) or f"`{metavar}`"
    text = (action.help or "") % {"default": action.default, "prog": "safmn"}
    return f"- {names}: {_plain(text)}"


def _plain(text: str) -> str:
    """Text on one line that Markdown does not take for HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
