"""Adds the workflow and its files to the wheel, as safmn/project/. Everything else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
PATTERNS = ("Snakefile", "workflow/**/*", "ablations/*", "config/*", "profiles/**/*", "environment.yml")
# Files that `safmn archive` adds to a study.
PATTERNS += ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", "setup.py")


class WithProject(build_py):
    """`build_py` that also copies the project's files, unless the install is editable."""

    def project_files(self) -> dict[str, str]:
        """Return the path in the build -> the file, relative to this folder."""
        files = [file.relative_to(HERE) for pattern in PATTERNS for file in HERE.glob(pattern) if file.is_file()]
        visible = [file for file in sorted(files) if not any(re.match(r"\.|__pycache__", part) for part in file.parts)]
        return {str(Path(self.build_lib, "safmn", "project", file)): str(file) for file in visible}

    def run(self) -> None:
        super().run()
        for target, file in {} if self.editable_mode else self.project_files().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(file, target, preserve_mode=False)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self.project_files().values()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *({} if self.editable_mode else self.project_files())]


setup(cmdclass={"build_py": WithProject})
