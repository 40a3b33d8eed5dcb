"""The settings ``SMOKETEST_REDIS_*``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from smoketest.conf import Setting, Settings
from smoketest.validators import Validator, number, string, strings

SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class RedisConf(Settings, prefix="SMOKETEST_REDIS_"):
    """Settings of the app."""

    #: URLs of servers, by name, in addition to those in the settings of packages.
    urls: Setting[Mapping[str, str]] = Setting(
        "smoketest.E161",
        {},
        Validator(
            "a dict of URLs by name, such as {'sessions': 'redis://:password@host:6379/0'}; a URL"
            f" starts with {', '.join(SCHEMES)}",
            lambda value: isinstance(value, dict),
            lambda value: all(map(_is_named_address, value.items())),
        ),
        is_secret=True,
    )
    #: Names of servers that are not tested.
    skip: Setting[Collection[str]] = Setting(
        "smoketest.E162",
        (),
        strings("a list, tuple or set of names, such as 'cache default' or 'celery broker'"),
    )
    #: Prefix of the keys that the tests write and delete. An ACL must grant access to it.
    key_prefix: Setting[str] = Setting(
        "smoketest.E163",
        "smoketest:",
        string("a non-empty string", bool),
    )
    #: Share of the memory limit above which the memory test fails with severity "warning".
    memory_used_max: Setting[float] = Setting(
        "smoketest.E164",
        0.9,
        number("a number greater than 0 and at most 1", lambda value: 0 < value <= 1),
    )


def _is_named_address(item: tuple[object, object]) -> bool:
    name, address = item
    if not (isinstance(name, str) and name and isinstance(address, str)):
        return False
    return address.startswith(SCHEMES)


conf = RedisConf()
