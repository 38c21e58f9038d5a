"""`python -m parity` is the command `parity`."""

import sys

from parity.cli.command_line import main

sys.exit(main())
