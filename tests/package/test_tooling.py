"""The files for contributors say the same: make lint, pre-commit, .ci/run, the GitHub workflow, citation, changelog."""

import re
import subprocess
import tomllib

import pytest
import yaml

import safmn
from tests.package.conftest import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
STEPS = re.search(r"^STEPS=\((.*)\)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)[1].split()


def test_pre_commit_runs_the_commands_of_make_lint():
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0].replace("$(BIN)", ".venv/bin")
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == [line.strip() for line in recipe.splitlines()[1:]]


def test_github_runs_steps_that_ci_run_has():
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    called = {word for command in commands for word in re.sub(r"^(sudo )?bash \.ci/run ", "", command).split()}
    assert called <= set(STEPS)
    # The missing one needs real images.
    assert set(STEPS) - called == {"t291"}


def test_the_matrix_is_what_the_package_states():
    with open(ROOT / "pyproject.toml", "rb") as handle:
        project = tomllib.load(handle)["project"]
    matrix = WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    oldest, newest = matrix["torch"]
    assert f"torch>={oldest.removesuffix('.0')}" in project["dependencies"]
    assert f"torch=={newest}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("arguments", [["lnit"], ["lint", "tset"]])
def test_an_unknown_step_is_refused_before_any_step_runs(arguments):
    finished = subprocess.run(["bash", ROOT / ".ci/run", *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert f"no step {arguments[-1]}" in finished.stderr
    assert finished.stdout == ""


def test_each_step_is_a_function():
    text = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^(\w+)\(\) \{", text, re.MULTILINE) == STEPS


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    with open(ROOT / "pyproject.toml", "rb") as handle:
        assert citation["license"] == tomllib.load(handle)["project"]["license"]
    assert citation["version"] == safmn.__version__
    assert re.search(rf"^## \[{re.escape(safmn.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.stem)
def test_issue_templates_have_what_github_asks_for(file):
    template = yaml.safe_load(file.read_text())
    if file.stem == "config":
        assert template == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(template)
    labels = [element["attributes"]["label"] for element in template["body"]]
    assert len(labels) == len(set(labels))
