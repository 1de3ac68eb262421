"""`python -m gateway.cli`, for where the console script is not on the path."""

import sys

from gateway.cli import main

sys.exit(main())
