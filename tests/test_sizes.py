"""Sizes in bytes: what people may type, and what they are shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyio.errors import OptionError
from lazyio.units import format_size, parse_size

UNITS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "PB": 1000**5,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "PiB": 1024**5,
}


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("64 MiB", 64 * 2**20),
        ("64MiB", 64 * 2**20),
        ("  64   MiB  ", 64 * 2**20),
        ("1 GB", 10**9),
        ("1 gb", 10**9),
        ("1 GIB", 2**30),
        ("1.5 GB", 1_500_000_000),
        ("0.5 KiB", 512),
        ("1.25KiB", 1280),
        ("12", 12),
        ("12 b", 12),
        ("007 kB", 7000),
    ],
)
def test_text(text, nbytes):
    """A number with or without a unit, in any case, is exact bytes."""
    assert parse_size(text, "memory_limit") == nbytes


@pytest.mark.parametrize("unit", UNITS, ids=[unit or "none" for unit in UNITS])
@pytest.mark.parametrize("spell", [str, str.lower, str.upper], ids=["as-is", "lower", "upper"])
def test_every_unit(unit, spell):
    """Decimal units are powers of 1000, binary ones of 1024, however they are cased."""
    assert parse_size(f"3 {spell(unit)}", "memory_limit") == 3 * UNITS[unit]


@pytest.mark.parametrize(
    "number",
    [4096, np.int64(4096), np.uint16(4096), 4096.0, np.float64(4096)],
    ids=["int", "int64", "uint16", "float", "float64"],
)
def test_numbers(number):
    """Whole numbers of any type are bytes, handed back as a Python integer."""
    nbytes = parse_size(number, "memory_limit")
    assert nbytes == 4096
    assert type(nbytes) is int


@pytest.mark.parametrize(
    "size",
    [
        "",
        "   ",
        "MiB",
        "-1 GB",
        "64 Mi",
        "1e9",
        "1,5 GB",
        "1 .5 GB",
        "1.5.5 GB",
        "64 MiB each",
        "0",
        "0 GB",
        "0.0001 B",
        "nan",
        "inf",
        0,
        -1,
        1.5,
        0.0,
        float("nan"),
        float("inf"),
        True,
        np.True_,
        None,
        [1],
        b"64 MiB",
    ],
    ids=repr,
)
def test_not_a_size(size):
    """What is no positive size is an OptionError that names argument, value and remedy."""
    with pytest.raises(OptionError, match=r"^chunk_nbytes=.* is not a size; give a positive"):
        parse_size(size, "chunk_nbytes")


def test_large_fraction_is_exact():
    """Fractions are scaled as integers, beyond what a float holds."""
    assert parse_size("1.000000000000001 PB", "x") == 10**15 + 1


@given(
    whole=st.integers(0, 10**6),
    digits=st.text("0123456789", max_size=6),
    unit=st.sampled_from(sorted(UNITS)),
)
@settings(max_examples=300, deadline=None)
def test_text_is_exact_arithmetic(whole, digits, unit):
    """A decimal number with a unit is its value in exact integers, rounded down."""
    expected = int(f"{whole}{digits}") * UNITS[unit] // 10 ** len(digits)
    text = f"{whole}.{digits} {unit}" if digits else f"{whole} {unit}"
    if expected:
        assert parse_size(text, "x") == expected
    else:
        with pytest.raises(OptionError, match="is not a size"):
            parse_size(text, "x")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1500, "1.46 KiB"),
        (2**20, "1 MiB"),
        (64 * 2**20, "64 MiB"),
        (1000 * 2**20, "1000 MiB"),
        (3 * 2**30, "3 GiB"),
        (5 * 2**40, "5 TiB"),
    ],
)
def test_shown(nbytes, text):
    """Bytes are shown with a few digits and a binary unit."""
    assert format_size(nbytes) == text


@given(nbytes=st.integers(1, 2**66))
@settings(max_examples=500, deadline=None)
def test_shown_sizes_can_be_typed(nbytes):
    """What is shown parses again, within the digits that are shown."""
    again = parse_size(format_size(nbytes), "x")
    assert again == pytest.approx(nbytes, rel=0.006)


def test_a_size_that_no_float_holds() -> None:
    """What a damaged file says of itself is told as well."""
    assert format_size(10**400) == "more than 2^80 B"
