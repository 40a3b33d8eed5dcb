"""Smoke tests that take their time, or never end, while a file says so; and many more."""

import os
import time

from django.conf import settings

from smoketest import SmokeTest, options


def is_asked_to(what: str) -> bool:
    return (settings.DATA_DIR / what).exists()


class PatienceTest(SmokeTest):
    """One after the other, as they are of one class."""

    databases = ()

    @options(timeout=2)
    def test_a_answer_comes(self) -> None:
        """The partner's site answers."""
        while is_asked_to("hang"):
            time.sleep(0.05)


@options(timeout=300)
def _stay(_: SmokeTest) -> None:
    """Stays for as long as it is asked to."""
    while is_asked_to("stay"):
        time.sleep(0.05)


for number in range(4):
    setattr(PatienceTest, f"test_step_{number}", _stay)


class CrowdTest(SmokeTest):
    """As many tests as the environment says, the first of which fails."""

    databases = ()


def _check(number: int) -> object:
    def test(self: SmokeTest) -> None:
        """One of many."""
        self.assertTrue(number, "the first of many fails " + "at length, " * 200)

    return test


for number in range(int(os.environ.get("PAGES_CROWD", "0"))):
    setattr(CrowdTest, f"test_number_{number:03}", _check(number))
