"""System checks: wrong settings, and a results store that does not work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004

from smoketest.assembly import state_folder
from smoketest.conf import Conf, InvalidSettingError, conf, unknown_settings
from smoketest.state import StateError
from smoketest.store import SharedStore, StoreError

TAG = "smoketest"


@register(TAG)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Each setting has a value that it may have (E001 to E013), and a meaning (W001)."""
    messages: list[CheckMessage] = []
    for setting in Conf.settings.values():
        try:
            setting.__get__(conf, Conf)
        except InvalidSettingError as error:
            hint = f"The default is {setting.default!r}."
            messages.append(Error(str(error), hint=hint, id=setting.check_id))
    for name, meant in unknown_settings().items():
        hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(Conf.settings)}."
        messages.append(Warning(f"{name} is no setting.", hint=hint, id="smoketest.W001"))
    return messages


def can_use_django_prometheus() -> bool:
    """Whether the site wants its metrics there, and has it."""
    wanted = getattr(settings, Conf.django_prometheus.name, False) is True
    return wanted and find_spec("django_prometheus") is not None


@register(TAG)
def check_django_prometheus(**_: Any) -> list[CheckMessage]:
    """What SMOKETEST_DJANGO_PROMETHEUS needs is there (E014)."""
    wanted = getattr(settings, Conf.django_prometheus.name, False) is True
    if not wanted or can_use_django_prometheus():
        return []
    return [
        Error(
            f"{Conf.django_prometheus.name} is True, but django-prometheus is not installed.",
            hint='Install it: pip install "django-smoketest[django-prometheus]".',
            id="smoketest.E014",
        )
    ]


@register(TAG)
def check_store(**_: Any) -> list[CheckMessage]:
    """The results store can be used (W002, W003), and never had to begin anew (W004)."""
    try:
        store = SharedStore(state_folder())
    except InvalidSettingError:
        return []  # check_settings complains of it
    except StateError as error:
        return [
            Warning(
                f"Results are kept in the memory of each process alone. {error}",
                hint="Until then metrics have no totals, and processes do not share results.",
                id="smoketest.W002",
            )
        ]
    try:
        store.snapshot()
    except StoreError as error:
        return [Warning(str(error), hint="No results are stored.", id="smoketest.W003")]
    return [
        Warning(
            f"The results store was corrupt and was moved to {path}.",
            hint="Look at the disk, then delete that file.",
            id="smoketest.W004",
        )
        for path in store.set_aside
    ]
