"""Find the targets in the settings of the site. No connection is made here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import STATICFILES_STORAGE_ALIAS, settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.smtp import EmailBackend
from django.db import connections
from django.utils.module_loading import import_string

from smoketest.contrib.essentials import host_names
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.redis.queues import find_queues
from smoketest.services import state_folder

#: Django's default backend of a mailer.
_SMTP = "django.core.mail.backends.smtp.EmailBackend"
_DUMMY_DATABASE = "django.db.backends.dummy"
#: Untyped, since django-stubs does not know all settings of all versions.
_site: Any = settings


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


def email_setting(name: str) -> Any:
    """Return an ``EMAIL_*`` setting without the deprecation warning of Django 6.1."""
    return getattr(_site._wrapped, name)


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
        found.setdefault(host, []).append(origin)
    return found


def _configured_hosts() -> Iterator[tuple[str, str]]:
    for alias in databases():
        database = connections.settings[alias]
        for host in host_names.in_database(database["ENGINE"], str(database.get("HOST") or "")):
            yield host, f"DATABASES[{alias!r}]"
    caches: Mapping[str, Any] = settings.CACHES
    for alias, cache in caches.items():
        backend = str(cache.get("BACKEND", ""))
        for host in host_names.in_cache(backend, cache.get("LOCATION"), cache.get("OPTIONS") or {}):
            yield host, f"CACHES[{alias!r}]"
    yield from _queue_hosts()
    for alias, origin in mail_origins().items():
        for host in host_names.in_mailer(mail_host(alias)):
            yield host, origin
    for host in conf.hosts:
        for valid in host_names.in_mailer(host):
            yield valid, EssentialsConf.hosts.name


def _queue_hosts() -> Iterator[tuple[str, str]]:
    """Yield the hosts of the Redis servers of task queues and of Channels."""
    found: list[tuple[str, object]] = [(queue.setting, queue.origin) for queue in find_queues()]
    layers: Mapping[str, Any] = getattr(settings, "CHANNEL_LAYERS", None) or {}
    for alias, layer in layers.items():
        if "redis" in layer.get("BACKEND", ""):
            hosts = layer.get("CONFIG", {}).get("hosts") or ()
            found += [(f"CHANNEL_LAYERS[{alias!r}]", host) for host in hosts]
    for setting, connection in found:
        for host in host_names.in_connection(connection):
            yield host, setting


def mail_origins() -> Mapping[str, str]:
    """Return the settings of the mailers that send by SMTP, by alias."""
    if has_mailers():
        return {
            alias: f"MAILERS[{alias!r}]"
            for alias, mailer in _site.MAILERS.items()
            if _is_smtp(mailer.get("BACKEND", _SMTP))
        }
    has_server = has_mail_host() and _is_smtp(email_setting("EMAIL_BACKEND"))
    return {"default": "EMAIL_HOST"} if has_server else {}


def mail_host(alias: str) -> str:
    """Return the host of a mailer; empty if none is set."""
    if has_mailers():
        return str(_site.MAILERS[alias].get("OPTIONS", {}).get("host") or "")
    return str(email_setting("EMAIL_HOST") or "")


def _is_smtp(backend: object) -> bool:
    """Return whether a backend is that of Django for SMTP, or a subclass."""
    try:
        found = import_string(str(backend))
    except ImportError:
        return False  # reported by the test of the mailer
    return isinstance(found, type) and issubclass(found, EmailBackend)
