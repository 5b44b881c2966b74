"""``python -m lazyio`` is ``lazyio``."""

import sys

from lazyio.cli import main

if __name__ == "__main__":
    sys.exit(main())
