"""`python -m aggregated_posterior` is the command `aggregated-posterior`."""

import sys

from .audit.cli import main

sys.exit(main())
