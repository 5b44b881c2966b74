"""The benchmarks are no part of the package: they are imported from the checkout.

The checkout comes last on the path, so that an installed lazyio is the one tested.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
