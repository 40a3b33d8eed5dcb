"""Healthy sites on which a built-in check could fail, named by what the site has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage

from tests.contrib.conftest import TEMPLATES, Essentials

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

_BACKENDS = "django.core.cache.backends"
_FILES = "django.core.files.storage.FileSystemStorage"
_CHANNELS = "channels_redis.core.RedisChannelLayer"


class NotListableStorage(FileSystemStorage):
    """A storage whose service answers 403 for missing files."""

    def exists(self, name: str) -> bool:
        if super().exists(name):
            return True
        error: Any = PermissionError("Forbidden")
        error.code = 403
        raise error

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name


def storages(default: str, static: str = "") -> dict[str, Any]:
    found = {"default": {"BACKEND": default}}
    return {"STORAGES": found | ({"staticfiles": {"BACKEND": static}} if static else {})}


def cache(backend: str, **entry: Any) -> dict[str, Any]:
    return {"CACHES": {"default": {"BACKEND": backend, **entry}}}


SITES: dict[str, dict[str, Any]] = {
    "a LocMemCache with the LOCATION of Django's documentation": cache(
        f"{_BACKENDS}.locmem.LocMemCache", LOCATION="unique-snowflake"
    ),
    "a dummy cache": cache(f"{_BACKENDS}.dummy.DummyCache", LOCATION="not-a-host"),
    "a cache in a table": cache(f"{__name__}.TableCache", LOCATION="cache_table"),
    "no templates": {"TEMPLATES": []},
    "no STATIC_URL": {"STATIC_URL": None},
    "a 404 page that uses what middleware sets": {
        "TEMPLATES": [{**TEMPLATES, "DIRS": ["error_pages"]}],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    },
    "middleware that redirects all visitors": {
        "MIDDLEWARE": ["tests.contrib.test_error_pages.sign_in"]
    },
    "no storage for static files": storages(_FILES),
    "static files without a manifest": storages(_FILES, _FILES),
    "no MEDIA_ROOT": {"MEDIA_ROOT": ""},
    "a storage without permission to list": storages(f"{__name__}.NotListableStorage"),
    "a storage without permission to delete": storages(
        "tests.contrib.test_essentials.KeepingStorage"
    ),
    "a queue of django-rq on Sentinel": {
        "RQ_QUEUES": {
            "default": {"SENTINELS": [("127.0.0.1", 1)], "MASTER_NAME": "mymaster"},
            "cache": {"USE_REDIS_CACHE": "default"},
        }
    },
    "a cluster of django-q2 in the database": {"Q_CLUSTER": {"orm": "default"}},
    "a huey that runs tasks immediately": {
        "HUEY": {"connection": {"host": "not-a-host"}, "immediate": True}
    },
    "a channel layer on Sentinel": {
        "CHANNEL_LAYERS": {
            "default": {
                "BACKEND": _CHANNELS,
                "CONFIG": {"hosts": [{"sentinels": [("127.0.0.1", 1)], "master_name": "mymaster"}]},
            }
        }
    },
    "a channel layer in memory": {
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    },
}


class TableCache(dict[str, Any]):
    """A cache whose LOCATION is not a host."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__()

    def set(self, key: str, value: Any, timeout: float) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)

    def close(self) -> None: ...


def assert_no_alarm(essentials: Essentials, **settings: Any) -> None:
    run = essentials(
        "caches", "host", "mail", "pages", "storages", **{"STATIC_URL": "s/", **settings}
    )
    failed = {
        name: run.messages[name]
        for name, outcome in run.outcomes.items()
        if outcome not in {"passed", "skipped"}
    }
    assert failed == {}


@pytest.mark.parametrize("site", SITES)
def test_site_has(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("error_pages").mkdir()
    Path("error_pages", "404.html").write_text("{{ request.user.is_anonymous }} is not here")
    assert_no_alarm(essentials, **{"MEDIA_ROOT": tmp_path / "media", **SITES[site]})


@pytest.mark.parametrize(
    "host", [pytest.param("", id="no EMAIL_HOST"), pytest.param("no-such.invalid", id="a host")]
)
@pytest.mark.parametrize("backend", ["console", "filebased", "locmem", "dummy"])
@pytest.mark.filterwarnings("ignore:The EMAIL_:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The EMAIL_:PendingDeprecationWarning")
def test_mail_is_not_sent_by_smtp(
    essentials: Essentials, tmp_path: Path, backend: str, host: str
) -> None:
    assert_no_alarm(
        essentials,
        EMAIL_BACKEND=f"django.core.mail.backends.{backend}.EmailBackend",
        EMAIL_HOST=host,
        EMAIL_FILE_PATH=str(tmp_path),
    )
