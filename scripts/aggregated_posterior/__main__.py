"""`python -m aggregated_posterior` is the command `aggregated-posterior`."""

import sys

from .cli import main

sys.exit(main())
