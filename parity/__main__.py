"""`python -m parity` is the command `parity`."""

import sys

from parity.cli.command_line import main

if __name__ == "__main__":  # a process that a subject starts anew imports this file as well
    sys.exit(main())
