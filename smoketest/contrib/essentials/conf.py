"""The settings ``SMOKETEST_ESSENTIALS_*``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from smoketest.conf import Setting, Settings, seconds
from smoketest.validators import is_number, is_strings

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


def _are_parts(value: object) -> bool:
    return is_strings(value) and all(name.partition(".")[0] in PARTS for name in value)


def _is_folder(value: object) -> bool:
    if not isinstance(value, str) or "\\" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _are_hosts(value: object) -> bool:
    return is_strings(value) and not any(set(host) & set("/:@ ") or not host for host in value)


def _share(check_id: str, default: float) -> Setting[float]:
    return Setting(
        check_id,
        default,
        "a number from 0 to 1, such as 0.05 for 5 %",
        lambda value: is_number(value) and 0 <= value <= 1,
    )


def _bytes(check_id: str, default: int) -> Setting[int]:
    return Setting(
        check_id,
        default,
        "a number of bytes, 0 or more",
        lambda value: is_number(value) and value >= 0,
    )


class EssentialsConf(Settings, prefix="SMOKETEST_ESSENTIALS_"):
    """Settings of the app."""

    #: Excluded tests: parts, or single targets such as "caches.sessions".
    skip: Setting[Collection[str]] = Setting(
        "smoketest.E101",
        (),
        f"a list, tuple or set of parts ({', '.join(PARTS)}), each with or without the name of a"
        " target, as in 'caches.sessions'",
        _are_parts,
    )
    #: Databases to which the tests do not write, in addition to those with a MIRROR in TEST.
    read_only_databases: Setting[Collection[str]] = Setting(
        "smoketest.E102", (), "a list, tuple or set of database aliases", is_strings
    )
    #: Directory in each storage for the test file. Empty: the root of the storage.
    storage_folder: Setting[str] = Setting(
        "smoketest.E103",
        "",
        "a relative path with forward slashes and without .., or an empty string",
        _is_folder,
    )
    #: Minimum share of free space, and of free inodes, of each file system.
    min_free_disk = _share("smoketest.E104", 0.05)
    #: Free space in bytes that is always sufficient, regardless of the share.
    enough_free_disk = _bytes("smoketest.E105", 10 * GIB)
    #: Minimum share of available memory, of the host and of the container.
    min_free_memory = _share("smoketest.E106", 0.05)
    #: Available memory in bytes that is always sufficient, regardless of the share.
    enough_free_memory = _bytes("smoketest.E107", 1 * GIB)
    #: Maximum difference between the clocks of this host and of a database, in seconds.
    clock_tolerance = seconds("smoketest.E108", 5.0)
    #: Host names that must resolve, in addition to those of databases, caches and mail.
    hosts: Setting[Collection[str]] = Setting(
        "smoketest.E109", (), "a list, tuple or set of host names without ports", _are_hosts
    )


conf = EssentialsConf()
