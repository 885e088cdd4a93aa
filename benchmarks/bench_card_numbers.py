"""How often a random id is taken for a card number, and what the look at a message costs.

python -m benchmarks.bench_card_numbers --ids 1000000
"""

from __future__ import annotations

import argparse
import random
import timeit
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable

from stream.card_numbers import may_show_card_number, shows_card_number

_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MESSAGE = (
    b'{"transaction_id":"t1486","event_time":"2026-01-07T23:19:48.914000+00:00","card_id":"c28",'
    b'"merchant_id":"m45","amount_minor":1620,"currency":"EUR","device_id":"d14","country":"FR",'
    b'"category":"fuel","channel":"online","latitude":48.85661,"longitude":2.35222}'
)


def _forms(chance: random.Random) -> dict[str, Callable[[], str]]:
    def digits(count: int) -> Callable[[], str]:
        return lambda: str(chance.randrange(10 ** (count - 1), 10**count))

    def hexadecimal(count: int) -> Callable[[], str]:
        return lambda: f"{chance.getrandbits(4 * count):0{count}x}"

    return {
        "uuid4": lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        **{f"hex {count}": hexadecimal(count) for count in (16, 20, 24, 32, 40, 64)},
        "ulid": lambda: "".join(chance.choices(_ULID, k=26)),
        "base64 22": lambda: urlsafe_b64encode(chance.randbytes(16)).decode()[:22],
        "order 3-7-7": lambda: (
            f"{chance.randrange(1000):03}-{chance.randrange(10**7):07}-{chance.randrange(10**7):07}"
        ),
        "snowflake": lambda: str(chance.randrange(10**18, 2 * 10**18)),
        "nanoseconds": lambda: str(1_750_000_000_000_000_000 + chance.randrange(10**17)),
        "time and digits": lambda: (
            f"2026{chance.randrange(1, 13):02}{chance.randrange(1, 29):02}{chance.randrange(10**8):08}"
        ),
        **{f"decimal {count}": digits(count) for count in range(10, 21)},
    }


def main() -> None:
    """Print a rate a form, in millionths, and microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=1_000_000, help="of each form [%(default)s]")
    count = parser.parse_args().ids
    for name, make in _forms(random.Random(15)).items():
        hits = 0
        for _ in range(count):
            text = make()
            hits += may_show_card_number(text.encode()) and shows_card_number(text)
        print(f"{name:16} {hits:8,} of {count:,}", flush=True)  # noqa: T201 - a report
    seconds = min(timeit.repeat(lambda: may_show_card_number(_MESSAGE), number=100_000, repeat=7)) / 100_000
    print(f"a message of {len(_MESSAGE)} bytes: {seconds * 1e6:.2f} us")  # noqa: T201 - a report


if __name__ == "__main__":
    main()
