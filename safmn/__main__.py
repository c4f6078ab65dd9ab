"""`python -m safmn`."""

import sys

from safmn.cli import main

sys.exit(main())
