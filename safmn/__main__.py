"""`python -m safmn`: the command line."""

import sys

from safmn.cli import main

sys.exit(main())
