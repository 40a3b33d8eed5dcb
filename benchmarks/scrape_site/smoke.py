"""The configured number of smoke tests, 50 per class; all of them pass."""

from collections.abc import Callable

from django.conf import settings

from smoketest import SmokeTest

CLASS_SIZE = 50


def _test(number: int) -> Callable[[SmokeTest], None]:
    def test(self: SmokeTest) -> None:
        self.assertIsInstance(number, int)  # noqa: PT009 - typical user code

    return test


for _first in range(0, settings.TESTS, CLASS_SIZE):
    _name = f"Orders{_first // CLASS_SIZE:03d}Test"
    _numbers = range(_first, min(_first + CLASS_SIZE, settings.TESTS))
    _members = {f"test_order_{number:04d}_can_be_placed": _test(number) for number in _numbers}
    globals()[_name] = type(
        _name,
        (SmokeTest,),
        {
            **_members,
            "__module__": __name__,
            "maintainer": "payments",
            "runbook_url": "https://wiki.example.com/orders",
        },
    )
