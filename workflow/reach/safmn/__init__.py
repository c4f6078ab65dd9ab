"""Stands for the installed package that this file is part of, without making its neighbours importable.

Jobs may run in a conda environment, which has what the package needs, but not the package. With this folder on
PYTHONPATH it is found there; with the folder that the package is installed in, packages for another Python would be.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_package = Path(__file__).resolve().parents[4]  # from safmn/project/workflow/reach/safmn/__init__.py
_spec = spec_from_file_location("safmn", _package / "__init__.py", submodule_search_locations=[str(_package)])
sys.modules["safmn"] = module_from_spec(_spec)  # the import goes on with what stands here
_spec.loader.exec_module(sys.modules["safmn"])
