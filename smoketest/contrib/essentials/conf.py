"""The settings ``SMOKETEST_ESSENTIALS_*``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from smoketest.conf import Setting, Settings
from smoketest.validators import POSITIVE_SECONDS, number, string, strings

#: Parts that can be excluded, in the order of the documentation. A part with several targets also
#: allows excluding one of them: ``"caches.sessions"``.
PARTS = (
    "databases",
    "migrations",
    "clock",
    "caches",
    "storages",
    "mail",
    "error_pages",
    "static_files",
    "system_checks",
    "disks",
    "memory",
    "dns",
)

GIB = 1024**3


def _is_part(name: str) -> bool:
    return name.partition(".")[0] in PARTS


def _is_folder(name: str) -> bool:
    path = PurePosixPath(name)
    return not ("\\" in name or path.is_absolute() or ".." in path.parts)


def _is_host(name: str) -> bool:
    return bool(name) and not set(name) & set("/:@ ")


_SHARE = number("a number from 0 to 1, such as 0.05 for 5 %", lambda value: 0 <= value <= 1)
_BYTES = number("a number of bytes, 0 or more", lambda value: value >= 0)


class EssentialsConf(Settings, prefix="SMOKETEST_ESSENTIALS_"):
    """Settings of the app."""

    #: Excluded tests: parts, or single targets such as "caches.sessions".
    skip: Setting[Collection[str]] = Setting(
        "smoketest.E101",
        (),
        strings(
            f"a list, tuple or set of parts ({', '.join(PARTS)}), each with or without the name of"
            " a target, as in 'caches.sessions'",
            _is_part,
        ),
    )
    #: Databases to which the tests do not write, in addition to those with a MIRROR in TEST.
    read_only_databases: Setting[Collection[str]] = Setting(
        "smoketest.E102", (), strings("a list, tuple or set of database aliases")
    )
    #: Directory in each storage for the test file. Empty: the root of the storage.
    storage_folder: Setting[str] = Setting(
        "smoketest.E103",
        "",
        string(
            "a relative path with forward slashes and without .., or an empty string", _is_folder
        ),
    )
    #: Minimum share of free space, and of free inodes, of each file system.
    min_free_disk: Setting[float] = Setting("smoketest.E104", 0.05, _SHARE)
    #: Free space in bytes that is always sufficient, regardless of the share.
    enough_free_disk: Setting[int] = Setting("smoketest.E105", 10 * GIB, _BYTES)
    #: Minimum share of available memory, of the host and of the container.
    min_free_memory: Setting[float] = Setting("smoketest.E106", 0.05, _SHARE)
    #: Available memory in bytes that is always sufficient, regardless of the share.
    enough_free_memory: Setting[int] = Setting("smoketest.E107", 1 * GIB, _BYTES)
    #: Maximum difference between the clocks of this host and of a database, in seconds.
    clock_tolerance: Setting[float] = Setting("smoketest.E108", 5.0, POSITIVE_SECONDS)
    #: Host names that must resolve, in addition to those of databases, caches and mail.
    hosts: Setting[Collection[str]] = Setting(
        "smoketest.E109", (), strings("a list, tuple or set of host names without ports", _is_host)
    )


conf = EssentialsConf()
