"""The settings ``SMOKETEST_REDIS_*``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from smoketest.conf import Setting, Settings
from smoketest.validators import is_number, is_strings

SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class RedisConf(Settings, prefix="SMOKETEST_REDIS_"):
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: Servers besides those of CACHES, CHANNEL_LAYERS and Celery: their addresses by names.
    urls: Setting[Mapping[str, str]] = Setting(
        "smoketest.E161",
        {},
        "a dict of addresses by names, such as {'sessions': 'redis://:password@host:6379/0'};"
        f" they begin with {', '.join(SCHEMES)}",
        lambda value: isinstance(value, dict) and all(map(_is_named_address, value.items())),
        is_secret=True,
    )
    #: Names of servers to leave out, as the system check and the tests call them.
    skip: Setting[Collection[str]] = Setting(
        "smoketest.E162",
        (),
        "a list, tuple or set of names, such as 'cache default' or 'celery broker'",
        is_strings,
    )
    #: What the keys begin with that the tests write and delete; the user of an ACL needs them.
    key_prefix: Setting[str] = Setting(
        "smoketest.E163",
        "smoketest:",
        "a string that is not empty",
        lambda value: isinstance(value, str) and value != "",
    )
    #: The part of the memory that may be in use before it is a warning.
    memory_used_max: Setting[float] = Setting(
        "smoketest.E164",
        0.9,
        "a number above 0, up to 1",
        lambda value: is_number(value) and 0 < value <= 1,
    )


def _is_named_address(item: tuple[object, object]) -> bool:
    name, address = item
    if not (isinstance(name, str) and name and isinstance(address, str)):
        return False
    return address.startswith(SCHEMES)


conf = RedisConf()
