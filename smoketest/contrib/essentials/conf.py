"""The settings ``SMOKETEST_ESSENTIALS_*``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from smoketest.conf import Setting, Settings, seconds
from smoketest.validators import is_number, is_strings

#: What can be left out, in the order of the documentation. Those that the site may have several
#: of can be left out one by one: ``"caches.sessions"``.
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
    """What the site has set, or the default; a wrong value raises `InvalidSettingError`."""

    #: What to leave out: parts, or one thing of a part, such as "caches.sessions".
    skip: Setting[Collection[str]] = Setting(
        "smoketest.E101",
        (),
        f"a list, tuple or set of parts ({', '.join(PARTS)}), each alone or with a name after it"
        " as in 'caches.sessions'",
        _are_parts,
    )
    #: Databases that are not written to, besides those whose TEST names a MIRROR.
    read_only_databases: Setting[Collection[str]] = Setting(
        "smoketest.E102", (), "a list, tuple or set of database aliases", is_strings
    )
    #: Folder of each storage in which a file is written and deleted; empty: at its top.
    storage_folder: Setting[str] = Setting(
        "smoketest.E103", "", "a relative path with forward slashes and without .., or empty",
        _is_folder,
    )  # fmt: skip
    #: Share of each file system, and of its inodes, that has to be free.
    min_free_disk = _share("smoketest.E104", 0.05)
    #: So much free disk is enough, however large the file system is; in bytes.
    enough_free_disk = _bytes("smoketest.E105", 10 * GIB)
    #: Share of the memory, of the host or the container, that has to be available.
    min_free_memory = _share("smoketest.E106", 0.05)
    #: So much available memory is enough, however much there is; in bytes.
    enough_free_memory = _bytes("smoketest.E107", 1 * GIB)
    #: How far the clocks of this host and of a database may be apart.
    clock_tolerance = seconds("smoketest.E108", 5.0)
    #: Hosts whose names have to resolve, besides those of databases, caches and mail.
    hosts: Setting[Collection[str]] = Setting(
        "smoketest.E109", (), "a list, tuple or set of host names, without port", _are_hosts
    )


conf = EssentialsConf()
