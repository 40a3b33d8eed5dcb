"""Find the targets in the settings of the site. No connection is made here."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import STATICFILES_STORAGE_ALIAS, settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.services import state_folder

_DUMMY_DATABASE = "django.db.backends.dummy"
#: Untyped, since django-stubs does not know all settings of all versions.
_site: Any = settings
#: Host names that are not resolved by DNS.
_LOCAL = frozenset({"localhost", "localhost.localdomain"})


def is_wanted(part: str, name: str = "") -> bool:
    """Return whether a part, or its target with this name, is not excluded."""
    return part not in conf.skip and f"{part}.{name}" not in conf.skip


def names() -> Mapping[str, list[str]]:
    """Return the names of the targets that can be excluded, by part."""
    return {
        "databases": databases(),
        "migrations": databases(),
        "clock": databases(),
        "caches": caches(),
        "storages": storages(),
        "mail": mailers(),
        "disks": list(places()),
        "dns": list(hosts()),
    }


def databases() -> list[str]:
    return [
        alias
        for alias in connections
        if connections.settings[alias]["ENGINE"] != _DUMMY_DATABASE
    ]  # fmt: skip


def is_read_only(alias: str) -> bool:
    """Return whether the site never writes to a database: a replica, or one in the setting."""
    is_mirror = bool(connections.settings[alias]["TEST"].get("MIRROR"))
    return is_mirror or alias in conf.read_only_databases


def vendor(alias: str) -> str:
    """Return the vendor of a database; empty if its driver is missing."""
    try:
        return str(connections[alias].vendor)
    except (ImproperlyConfigured, ImportError):
        return ""


def caches() -> list[str]:
    return list(settings.CACHES)


def storages() -> list[str]:
    """Return the storages except that of static files."""
    return [alias for alias in settings.STORAGES if alias != STATICFILES_STORAGE_ALIAS]


def has_mailers() -> bool:
    """Return whether the setting MAILERS is set and supported by this version of Django."""
    return hasattr(mail, "mailers") and hasattr(settings, "MAILERS")


def mailers() -> list[str]:
    return list(_site.MAILERS) if has_mailers() else ["default"]


def email_setting(name: str) -> str:
    """Return an ``EMAIL_*`` setting without the deprecation warning of Django 6.1."""
    return str(getattr(_site._wrapped, name))


def has_mail_host() -> bool:
    """Return whether the site sets a mail server; that of Django's default may not exist."""
    return bool(_site.is_overridden("EMAIL_HOST"))


def places() -> Mapping[str, Callable[[], str]]:
    """Return functions that return the paths to which the site writes, by name."""
    found: dict[str, Callable[[], str]] = {}
    configured = {
        "media": settings.MEDIA_ROOT,
        "static": settings.STATIC_ROOT,
        "uploads": settings.FILE_UPLOAD_TEMP_DIR,
    }
    configured |= {f"{alias}-database": _sqlite_file(alias) for alias in databases()}
    for name, path in configured.items():
        if path:
            found[name] = lambda path=path: str(path)  # type: ignore[misc]
    found["temporary"] = tempfile.gettempdir
    found["state"] = lambda: str(state_folder().path)
    return found


def _sqlite_file(alias: str) -> str:
    name = str(connections.settings[alias]["NAME"])
    is_in_memory = not name or name.startswith((":memory:", "file:"))
    return "" if is_in_memory or vendor(alias) != "sqlite" else name


def hosts() -> Mapping[str, list[str]]:
    """Return the host names, with the settings that contain them."""
    found: dict[str, list[str]] = {}
    for host, origin in _configured_hosts():
        if host.lower() not in _LOCAL and not _is_address(host):
            found.setdefault(host, []).append(origin)
    return found


def _configured_hosts() -> Iterator[tuple[str, str]]:
    for alias in databases():
        for host in str(connections.settings[alias].get("HOST") or "").split(","):
            if host and not host.startswith(("/", "@")):  # sockets
                yield host, f"DATABASES[{alias!r}]"
    for alias, cache in settings.CACHES.items():
        for host in _hosts_of_cache(cache):
            yield host, f"CACHES[{alias!r}]"
    yield from _hosts_of_mail()
    for host in conf.hosts:
        yield host, EssentialsConf.hosts.name


def _hosts_of_mail() -> Iterator[tuple[str, str]]:
    if has_mailers():
        for alias, mailer in _site.MAILERS.items():
            if host := str(mailer.get("OPTIONS", {}).get("host") or ""):
                yield host, f"MAILERS[{alias!r}]"
    elif has_mail_host():
        yield email_setting("EMAIL_HOST"), "EMAIL_HOST"


def _hosts_of_cache(cache: Mapping[str, Any]) -> Iterator[str]:
    """Yield the hosts of URLs such as ``redis://host:6379/1`` and ``host:11211`` (memcached)."""
    location = cache.get("LOCATION") or ()
    if not isinstance(location, (list, tuple)):
        location = str(location).replace(",", ";").split(";")
    is_memcached = "memcache" in str(cache.get("BACKEND", "")).lower()
    for server in map(str, location):
        if "://" in server:
            address = server
        elif is_memcached and not server.startswith(("/", "unix:")):
            address = f"//{server}"
        else:
            continue
        try:
            host = urlsplit(address).hostname
        except ValueError:
            continue  # in a notation of the backend
        if host and not address.startswith(("unix", "file")):
            yield host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True
