"""``python -m scenegen`` is the command ``scenegen``."""

import sys

from scenegen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
