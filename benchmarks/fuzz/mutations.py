"""What is done to a file: by a random generator, so that a seed tells all of it."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

_NUMBERS = (
    0,
    1,
    -1,
    7,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
)
_ODD: tuple[Any, ...] = (
    *_NUMBERS,
    *(None, True, "", "x", "../../outside/secret.raw", "\0", [], {}, [[]], [-1], [2**62], 1e308),
    *(float("nan"), "<M8[ns]", "|O", "|S2147483647", {"name": "x"}, "a" * 5000, 10**400),
    *(["numcodecs.pickle"], {"id": "pickle"}, {"id": "lzma"}, {"name": "numcodecs.bz2"}),
)
Data = bytearray


def mutated(files: dict[str, bytes], chance: random.Random) -> dict[str, bytes]:
    """Return files of which one or a few have been changed in one or a few ways."""
    found = dict(files)
    names = [name for name, content in found.items() if not content.startswith(b"->")]
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        name = chance.choice(names)
        found[name] = _changed(name, found[name], list(files.values()), chance)
    if len(found) > 1 and chance.random() < 0.03:
        one, other = chance.sample(sorted(found), 2)
        found[one] = found[other]
    return found


def _changed(name: str, content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    is_json = name.endswith(("json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"))
    if is_json and chance.random() < 0.8:
        return _json(content, chance)
    data = Data(content)
    if not data:
        return bytes(chance.randrange(64))
    chance.choice(_WAYS)(data, others, chance)
    return bytes(data)


def _flip(data: Data, _: list[bytes], chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _noise(data: Data, _: list[bytes], chance: random.Random) -> None:
    at, count = chance.randrange(len(data)), chance.choice((1, 2, 4, 8, 32))
    data[at : at + count] = chance.randbytes(min(count, len(data) - at))


def _zero(data: Data, _: list[bytes], chance: random.Random) -> None:
    at, count = chance.randrange(len(data)), chance.choice((1, 4, 8, 64, 512))
    data[at : at + count] = bytes(min(count, len(data) - at))


def _swap(data: Data, _: list[bytes], chance: random.Random) -> None:
    count = chance.choice((1, 8, 16, 64, 512))
    one, other = (chance.randrange(len(data)) // count * count for _ in range(2))
    data[one : one + count], data[other : other + count] = (
        data[other : other + count],
        data[one : one + count],
    )


def _number(data: Data, _: list[bytes], chance: random.Random) -> None:
    code = chance.choice(("<Q", "<Q", "<I", "<H", "<B", ">Q", ">I"))
    size = struct.calcsize(code)
    at = chance.randrange(max(1, len(data) - size)) // chance.choice((1, size)) * 1
    value = chance.choice((*_NUMBERS, len(data), len(data) - 1)) % 2 ** (8 * size)
    data[at : at + size] = struct.pack(code, value)[: len(data) - at]


def _truncate(data: Data, _: list[bytes], chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _insert(data: Data, others: list[bytes], chance: random.Random) -> None:
    other = chance.choice(others) or b"\0"
    begin = chance.randrange(len(other))
    at = chance.randrange(len(data))
    data[at:at] = other[begin : begin + chance.choice((1, 8, 100))]


def _splice(data: Data, others: list[bytes], chance: random.Random) -> None:
    other = chance.choice(others) or b"\0"
    begin, at = chance.randrange(len(other)), chance.randrange(len(data))
    part = other[begin : begin + chance.choice((4, 8, 64, 512))][: len(data) - at]
    data[at : at + len(part)] = part


_WAYS: tuple[Callable[[Data, list[bytes], random.Random], None], ...] = (
    *(_flip, _flip, _noise, _zero, _swap, _number, _number, _number),
    *(_truncate, _insert, _splice),
)


def _json(content: bytes, chance: random.Random) -> bytes:
    """Change one value of a JSON file, or take it away, or nest it deeply."""
    try:
        held = json.loads(content)
    except (ValueError, RecursionError):  # It has been changed before.
        return content[: chance.randrange(len(content) + 1)]
    if chance.random() < 0.02:
        return b"[" * 100_000
    places = list(_places(held))
    if not places:
        return json.dumps(chance.choice(_ODD)).encode()
    place, key = chance.choice(places)
    way = chance.random()
    if way < 0.15:
        del place[key]
    elif way < 0.25 and isinstance(place, dict):
        place[chance.choice(("x", key + "x", "zarr_format", "codecs"))] = chance.choice(_ODD)
    elif way < 0.4:
        other, its = chance.choice(places)
        place[key] = json.loads(json.dumps(other[its]))
    else:
        place[key] = chance.choice(_ODD)
    return json.dumps(held).encode()


def _places(held: Any) -> Any:
    """Yield every place in nested lists and mappings."""
    items = (
        held.items()
        if isinstance(held, dict)
        else enumerate(held)
        if isinstance(held, list)
        else ()
    )
    for key, value in items:
        yield held, key
        yield from _places(value)
