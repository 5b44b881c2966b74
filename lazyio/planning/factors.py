"""Divisors of extents, the candidates that leave no remainder."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

_PRIME_BOUND = 4096


@lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Return divisors of a positive integer in rising order.

    Primes up to 4096 are split off; a larger cofactor is kept whole, so the
    cost does not depend on the number. Nothing is lost for it in practice: an
    extent with two prime factors above 4096 has no divisor of a useful size.

    Examples
    --------
    >>> divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    found = [1]
    rest = number
    prime = 2
    while prime <= _PRIME_BOUND and prime * prime <= rest:
        power = 1
        base = list(found)
        while rest % prime == 0:
            rest //= prime
            power *= prime
            found += [divisor * power for divisor in base]
        prime += 1 if prime == 2 else 2
    if rest > 1:
        found += [divisor * rest for divisor in found]
    return tuple(sorted(found))


def nearest(sorted_numbers: Sequence[int], wish: float) -> list[int]:
    """Return the numbers on either side of a wish, one or two of them.

    Examples
    --------
    >>> nearest((1, 2, 3, 4, 6, 12), 5)
    [4, 6]
    """
    at = bisect_left(sorted_numbers, wish)
    return list(sorted_numbers[max(0, at - 1) : at + 1])
