"""restic's chunker polynomial: we cut otherwise, but `config` must hold a valid one.

Kept true: it is a random irreducible polynomial of degree 53 over GF(2), as restic makes them, so restic can go on
with the repository. Polynomials are whole numbers whose bits are the coefficients.
"""

from collections.abc import Callable

DEGREE = 53
_MASK = (1 << DEGREE) - 1


def random_polynomial(random_bytes: Callable[[int], bytes]) -> int:
    """An irreducible polynomial of degree 53: about one in 26 odd ones is, so this ends soon."""
    while True:
        candidate = 1 << DEGREE | int.from_bytes(random_bytes(7), "big") & _MASK | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Whether a polynomial of degree 53 has no divisor.

    Rabin's test; 53 is prime, so 1 is the only degree of a divisor that must be ruled out apart.
    """
    if polynomial.bit_length() != DEGREE + 1:
        return False
    x = 0b10
    # A divisor of degree 1 is x or x + 1.
    if _gcd(polynomial, _frobenius(polynomial, 1) ^ x) != 1:
        return False
    return _frobenius(polynomial, DEGREE) == x


def _frobenius(polynomial: int, times: int) -> int:
    """The power x**(2**times), modulo the polynomial."""
    power = 0b10
    for _ in range(times):
        power = _remainder(_square(power), polynomial)
    return power


def _square(polynomial: int) -> int:
    """Over GF(2) squaring puts a zero between the coefficients."""
    return int("0".join(f"{polynomial:b}"), 2)


def _remainder(dividend: int, divisor: int) -> int:
    degree = divisor.bit_length()
    while dividend.bit_length() >= degree:
        dividend ^= divisor << (dividend.bit_length() - degree)
    return dividend


def _gcd(first: int, second: int) -> int:
    while second:
        first, second = second, _remainder(first, second)
    return first
