"""`python -m irbin` is the same program as `irbin`."""

from __future__ import annotations

import sys

from irbin.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
