"""What every adapter promises: the classes that authors of other adapters test with as well."""

from lazyio.testing import (
    PICKLERS,
    PROTOCOL,
    ReadsIntoContract,
    SourceContract,
    StoredContract,
    TravelsContract,
    assert_same,
    few,
    regions,
    whole,
)

__all__ = [
    "PICKLERS",
    "PROTOCOL",
    "ReadsIntoContract",
    "SourceContract",
    "StoredContract",
    "TravelsContract",
    "assert_same",
    "few",
    "regions",
    "whole",
]
