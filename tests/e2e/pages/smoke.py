"""Smoke tests that block or hang while a file exists, and a large number of tests."""

import os
import time

from django.conf import settings

from smoketest import SmokeTest, options


def is_requested(what: str) -> bool:
    return (settings.DATA_DIR / what).exists()


class BlockingTest(SmokeTest):
    """The methods of one class run one after another."""

    databases = ()

    @options(timeout=2)
    def test_a_service_responds(self) -> None:
        """The external service responds."""
        while is_requested("hang"):
            time.sleep(0.05)


@options(timeout=300)
def _block(_: SmokeTest) -> None:
    """Block until the file is removed."""
    while is_requested("block"):
        time.sleep(0.05)


for number in range(4):
    setattr(BlockingTest, f"test_step_{number}", _block)


class ManyTest(SmokeTest):
    """`PAGES_TEST_COUNT` tests, of which the first fails."""

    databases = ()


def _check(number: int) -> object:
    def test(self: SmokeTest) -> None:
        self.assertTrue(number, "the first of many fails " + "at length, " * 200)

    return test


for number in range(int(os.environ.get("PAGES_TEST_COUNT", "0"))):
    setattr(ManyTest, f"test_number_{number:03}", _check(number))
