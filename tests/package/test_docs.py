"""The documentation: links and anchors in every Markdown file, and the pages that are generated. No network."""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import safmn
from safmn.cli import COMMANDS, command
from safmn.device import doctor
from tests.package.conftest import ROOT

FILES = sorted(
    file for pattern in ("*.md", "docs/**/*.md", "*/README.md", "workflow/template/*.md") for file in ROOT.glob(pattern)
)


def text_of(file: Path) -> str:
    """A file without its code blocks."""
    return re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(file: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub and the site name them."""
    headings = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(file: Path) -> list[str]:
    """The links of a file to something in the repository that does not exist."""
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(file))
    missing = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    return missing


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    assert broken(file) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A heading: one\n[a](#a-heading-one) [b](#two) [c](other.md) [d](http://x.example) ![e](e)\n")
    assert broken(page) == ["#two", "other.md", "e"]


@pytest.mark.parametrize(("page", "count"), [("CONTRIBUTING.md", 30), ("tests/README.md", 5)])
def test_the_paths_that_contributors_are_told_exist(page, count):
    words = set(re.findall(r"`([\w./]+/[\w./]*)`", (ROOT / page).read_text(encoding="utf-8"))) - {"site/", "results/"}
    assert len(words) >= count
    assert [word for word in words if not (ROOT / word).exists() and not (ROOT / "tests" / word).exists()] == []


@pytest.fixture(scope="module")
def pages():
    """The module scripts/docs_pages.py."""
    specification = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts/docs_pages.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_command_is_documented(pages):
    text = pages.commands()
    assert re.findall(r"^## (\S+)$", text, re.MULTILINE) == list(COMMANDS)
    assert "- `--iterations N`: " in text
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert "<" not in prose  # a browser would take it for HTML


def test_every_page_is_in_the_navigation_once(pages):
    def entries(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node.values() if isinstance(node, dict) else node
        return [page for child in children for page in entries(child)]

    navigation = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    written = [file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")]
    assert sorted(navigation) == sorted([*written, *pages.PAGES.values(), "commands.md", "notebook.md"])


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](docs/data.md#the-usual-benchmarks)", "[a](data.md#the-usual-benchmarks)"),
        ("[a](config/README.md)", "[a](configuration.md)"),
        ("![a](docs/images/report.png)", "![a](images/report.png)"),
        ("[a](https://x.example/docs/data.md)", "[a](https://x.example/docs/data.md)"),
        ("[a](#verdicts)", "[a](#verdicts)"),
        ("[a](Snakefile)", "a"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(pages, link, expected):
    assert pages.LINK.sub(lambda match: pages._link(match, "README.md", "index.md"), link) == expected


def test_the_notebook_gives_the_outputs_that_it_shows():
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/notebook", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_notebook_is_a_page(pages):
    text = pages.notebook()
    assert text.startswith("# SAFMN in a notebook")
    assert "239,520" in text
    assert "```python\nimport safmn\n" in text


def test_importing_the_package_imports_no_torch():
    names = "safmn.networks.build, safmn.cost.complexity.measure, safmn.quality.evaluate, safmn.report.frames.networks"
    code = (
        f"import sys, safmn; assert not {{'torch', 'numpy'}} & set(sys.modules); print([f.__name__ for f in ({names})])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "['build', 'measure', 'evaluate', 'networks']\n"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(safmn, "no" + "thing")


def test_the_readme_names_the_drivers_that_the_doctor_asks_for():
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| Which torch? |"))
    assert all(f"CUDA {cuda} " in row and f"{major}.{minor}" in row for cuda, (major, minor) in doctor.DRIVERS.items())


NETWORK, STUDY = (
    {"complexity", "memory", "runtime", "operations", "train", "evaluate", "explain", "inspect", "upscale"},
    {"doctor", "memory", "resolve", "train", "trial", "plan", "status", "tables", "archive"},
)


def test_one_grammar_of_options():
    """`--network`, `--study` and `--weights` are known to each command that is about a network, a study, weights."""
    options = {}
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        command(name).configure(parser)
        options[name] = {option for action in parser._actions for option in action.option_strings}
    assert {name for name, known in options.items() if "--network" in known} == NETWORK
    assert {name for name, known in options.items() if "--study" in known} == STUDY
    assert {"evaluate", "explain", "inspect", "upscale"} <= {n for n, known in options.items() if "--weights" in known}


QUICK = (
    "--help",
    "train --help",
    "evaluate --help",
    "trian",
    "complexity no_mf",
    "train no_mf --study config/mini.yaml --out run",
    "train no_fm --study config/mni.yaml --out run",
    "evaluate --network no_mf --scale 4 --data Set5",
    "plan config/mni.yaml --estimate",
    "status config/mni.yaml",
    "tables --study config/mni.yaml",
    "archive --study mni --out a.zip",
    "resolve mni",
    "doctor --study config/mni.yaml",
    "trial no_mf --study mini",
    "memory no_mf",
    "memory safmn --scale 7",
    "memory safmn --training --study config/mni.yaml",
    "complexity safmn --scale 7",
    "runtime safmn no_mf",
    "operations --network no_mf",
    "explain no_mf --scale 4 --data Set5 --published 32.2",
    "inspect no_mf --scale 4 --scene Set5",
    "upscale none.png out.png --network safmn --scale 4 --weights w",
    "fetch imd --to weights",
    "pack Set6 --scale 4 --data-root . --out packed",
    "gpu-check --parts grph",
    "compare none none",
    "verify none.zip",
    "import none.zip",
)


def test_help_names_and_mistakes_wait_for_no_torch(tmp_path):
    code = (
        "import sys\n"
        "from safmn.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n"
        "        main(line.split())\n"
        "    except SystemExit:\n"
        "        pass\n"
        "    if {'torch', 'matplotlib', 'pandas'} & set(sys.modules):\n"
        "        sys.exit(line)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *QUICK],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.count("no_mf': did you mean no_mr, no_fm, no_fa?") == 9
    assert run.stderr.count("there is no study mni: did you mean mini?") == 2
    told = [line for line in run.stderr.splitlines() if line.startswith("safmn ")]
    assert len(told) == len([line for line in QUICK if not line.endswith("--help")]) - 1, told  # one line each; trian
