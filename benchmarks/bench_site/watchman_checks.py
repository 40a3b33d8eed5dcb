"""The suite as checks of django-watchman."""

from collections.abc import Callable

from django.conf import settings
from watchman.decorators import check

from bench_site.suites import get_action

_action = get_action()


def _check(number: int) -> Callable[[], dict[str, dict[str, bool]]]:
    @check
    def run() -> dict[str, dict[str, bool]]:
        _action()
        return {f"check_{number}": {"ok": True}}

    return run


for _number in range(settings.TESTS):
    globals()[f"check_{_number}"] = _check(_number)
