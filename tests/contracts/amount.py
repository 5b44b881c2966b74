"""How much is tried: less in every run, more with ``HYPOTHESIS_PROFILE=explore``."""

import os

EXPLORES = os.environ.get("HYPOTHESIS_PROFILE") == "explore"


def amount(usual, explored):
    """Return how many of something are tried."""
    return explored if EXPLORES else usual
