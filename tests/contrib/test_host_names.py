"""Tests of the host names that the built-in checks resolve."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import Client, override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from smoketest.contrib.essentials import host_names, targets
from smoketest.formats import COMMAND_FORMATS
from smoketest.results import Selection
from smoketest.runner.loader import find
from smoketest.store import SharedStore
from smoketest.store.directory import StateFolder
from tests.builders import PROPERTY
from tests.conftest import options

PASSWORD = "hunter2x"


@pytest.mark.parametrize(
    ("engine", "host", "expected"),
    [
        ("django.db.backends.postgresql", "db.internal", ["db.internal"]),
        ("django.db.backends.postgresql", "a.internal,b.internal", ["a.internal", "b.internal"]),
        ("django.contrib.gis.db.backends.postgis", "db", ["db"]),
        ("django_tenants.postgresql_backend", "db", ["db"]),
        ("django_prometheus.db.backends.mysql", "db", ["db"]),
        ("django.db.backends.postgresql", "/run/postgresql", []),
        ("django.db.backends.postgresql", "@socket", []),
        ("django.db.backends.postgresql", "10.0.0.1,::1,localhost", []),
        ("django.db.backends.postgresql", f"u:{PASSWORD}@db", []),
        ("django.db.backends.mysql", "/run/mysqld/mysqld.sock", []),
        ("django.db.backends.oracle", "db.internal", ["db.internal"]),
        ("django.db.backends.oracle", "(DESCRIPTION=(ADDRESS=(HOST=db)))", []),
        ("mssql", "db.internal", ["db.internal"]),
        ("mssql", r"server\INSTANCE", ["server"]),
        ("mssql", "tcp:server.example.com,1433", ["server.example.com"]),
        ("mssql", r"tcp:server\INSTANCE,1433", ["server"]),
        ("mssql", r"np:\\server\pipe\sql\query", []),
        ("mssql", r"(localdb)\MSSQLLocalDB", []),
        ("mssql", ".", []),
        ("sql_server.pyodbc", "server,1433", ["server"]),
        ("djongo", f"mongodb://u:{PASSWORD}@a.internal:27017,b.internal/shop", ["a.internal", "b.internal"]),  # noqa: E501
        ("django_mongodb_backend", f"mongodb+srv://shop:{PASSWORD}@cluster0.example.net", []),
        ("django_mongodb_backend", "db.internal", ["db.internal"]),
        ("django.db.backends.sqlite3", "db.internal", []),
        ("shop.backends.unknown", "db.internal", []),
    ],
)  # fmt: skip
def test_in_database(engine: str, host: str, expected: list[str]) -> None:
    assert list(host_names.in_database(engine, host)) == expected


REDIS = "django_redis.cache.RedisCache"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"


@pytest.mark.parametrize(
    ("backend", "location", "options", "expected"),
    [
        ("django.core.cache.backends.locmem.LocMemCache", "unique-snowflake", {}, []),
        ("django.core.cache.backends.db.DatabaseCache", "cache_table", {}, []),
        (PYMEMCACHE, "m1:11211;m2:11211", {}, ["m1", "m2"]),
        (PYMEMCACHE, ["m1:11211", "m2"], {}, ["m1", "m2"]),
        (PYMEMCACHE, "127.0.0.1:11211", {}, []),
        (PYMEMCACHE, "[::1]:11211", {}, []),
        (PYMEMCACHE, "unix:/run/memcached", {}, []),
        ("django_bmemcached.memcached.BMemcached", "m1:11211", {}, ["m1"]),
        (REDIS, "redis://redis.internal:6379/1", {}, ["redis.internal"]),
        (REDIS, f"rediss://u:{PASSWORD}@redis.internal/1", {}, ["redis.internal"]),
        (REDIS, f"redis://u:p/{PASSWORD}@redis.internal/1", {}, []),
        (REDIS, "redis://[::1]:6379", {}, []),
        (REDIS, "unix:///run/redis.sock", {}, []),
        (
            REDIS,
            "redis://mymaster/0",
            {
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "SENTINELS": [("s1.internal", 26379), ("10.0.0.1", 26379)],
            },
            ["s1.internal"],
        ),
        (REDIS, "redis://mymaster/0", {"CLIENT_CLASS": "django_redis.client.SentinelClient"}, []),
        ("shop.Cache", f"mongodb+srv://shop:{PASSWORD}@cluster0.example.net", {}, []),
        ("shop.Cache", f"mongodb://shop:{PASSWORD}@mongo.internal", {}, ["mongo.internal"]),
        ("shop.Cache", f"custom://shop:{PASSWORD}@host", {}, []),
        ("shop.Cache", None, {}, []),
    ],
)
def test_in_cache(
    backend: str, location: Any, options: dict[str, Any], expected: list[str]
) -> None:
    assert list(host_names.in_cache(backend, location, options)) == expected


SMTP = "django.core.mail.backends.smtp.EmailBackend"


def mail_settings(backend: str, host: str | None) -> override_settings:
    """Return the settings of this version of Django; MAILERS since 6.1."""
    if django.VERSION < (6, 1):
        return override_settings(EMAIL_BACKEND=backend, EMAIL_HOST=host)
    return override_settings(MAILERS={"default": {"BACKEND": backend, "OPTIONS": {"host": host}}})


@pytest.mark.parametrize("host", [None, "", "localhost", "10.0.0.1"])
def test_mail__no_host_name(host: str | None) -> None:
    with mail_settings(SMTP, host):
        assert dict(targets.hosts()) == {}


@pytest.mark.parametrize("name", ["console", "filebased", "locmem", "dummy"])
def test_mail__other_backend(name: str) -> None:
    """A host that the backend does not use is not resolved."""
    with mail_settings(f"django.core.mail.backends.{name}.EmailBackend", "smtp.internal"):
        assert dict(targets.hosts()) == {}


def test_mail__smtp() -> None:
    origin = "EMAIL_HOST" if django.VERSION < (6, 1) else "MAILERS['default']"
    with mail_settings(SMTP, "smtp.internal"):
        assert dict(targets.hosts()) == {"smtp.internal": [origin]}


def _values() -> st.SearchStrategy[str]:
    """Generate values with credentials in front of a host, in many notations."""
    schemes = st.sampled_from(["", "redis://", "mongodb://", "mongodb+srv://", "tcp:", "//", "x:"])
    users = st.sampled_from(["", "u", "u%40", "a/b", "u:x"])
    separators = st.sampled_from([":", "%3A", "/", "@", ",", ";", " "])
    ends = st.sampled_from(["@", "@@", "/@", "%40", "?@", "#@"])
    hosts = st.sampled_from(["h.internal", "h1,h2", "[::1]:1", "h:1/db?x=1", r"h\I,1", ""])
    return st.tuples(schemes, users, separators, st.just(PASSWORD), ends, hosts).map("".join)


@settings(PROPERTY, max_examples=500)
@given(_values(), st.sampled_from(["postgresql", "mysql", "oracle", "mssql", "djongo", "unknown"]))
def test_credentials_are_never_host_names(value: str, engine: str) -> None:
    """Host names become parts of test ids, metrics and system checks."""

    def found() -> Iterable[str]:
        yield from host_names.in_database(engine, value)
        for backend in (REDIS, PYMEMCACHE, "shop.Cache"):
            yield from host_names.in_cache(backend, value, {})
            yield from host_names.in_cache(backend, [value], {})
            yield from host_names.in_cache(backend, "", {"SENTINELS": [(value, 1)]})
        yield from host_names.in_mailer(value)
        yield from host_names.in_connection(value)
        yield from host_names.in_connection((value, 6379))
        yield from host_names.in_connection({"host": value})
        yield from host_names.in_connection({"address": value, "password": PASSWORD})
        yield from host_names.in_connection({"sentinels": [(value, 1)]})

    assert not any(PASSWORD in host for host in found())


@settings(PROPERTY, max_examples=100)
@given(_values())
def test_credentials_are_in_no_test_id_and_system_check(value: str) -> None:
    """Test ids become metrics, JUnit XML and log messages."""
    with services_at(value, SMOKETEST_ESSENTIALS_SKIP=["dns.unknown"]):
        suite = find(Selection(), options())
        shown = [*suite.declarations, *suite.collection_errors, *run_checks(tags=["smoketest"])]
    assert PASSWORD not in str(shown)


@contextmanager
def services_at(value: str, **changes: object) -> Iterator[None]:
    """Name a service by this value in each setting that can name one, and enable its tests."""
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [value]}}
    urls = {
        "CACHES": {"default": {"BACKEND": REDIS, "LOCATION": value}},
        "CHANNEL_LAYERS": {"default": layer},
        "CELERY_BROKER_URL": value,
        "CELERY_RESULT_BACKEND": value,
        "RQ_QUEUES": {"default": {"URL": value}, "host": {"HOST": value, "PORT": 1}},
        "Q_CLUSTER": {"redis": value},
        "HUEY": {"connection": {"url": value}},
    }
    contrib = ["smoketest.contrib.essentials", "smoketest.contrib.redis"]
    for name in [name for name in sys.modules if name.startswith(tuple(contrib))]:
        if ".smoke" in name:
            del sys.modules[name]
    with override_settings(INSTALLED_APPS=["smoketest", *contrib], **urls, **changes):
        yield


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize(
    "value",
    [
        f"redis://u:{PASSWORD}@127.0.0.1:1/0",
        f"redis://:{PASSWORD}@127.0.0.1:1",
        f"redis://u:{PASSWORD}%40@127.0.0.1:1/",
        f"redis://127.0.0.1:1/0?password={PASSWORD}",
        f"rediss://u:{PASSWORD}@127.0.0.1:1/0",
        f"unix://u:{PASSWORD}@/no/such.sock",
        f"mongodb+srv://u:{PASSWORD}@127.0.0.1",
        f"u:{PASSWORD}@127.0.0.1:1",
    ],
)
def test_credentials_are_in_no_output(
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tests fail, and no report, page, metric or log message contains the password."""
    state = tmp_path / "state"
    shown = []
    with services_at(value, SMOKETEST_STATE_DIR=state, DEBUG=True):
        for format_name in (*COMMAND_FORMATS, "prometheus"):
            with pytest.raises(SystemExit):
                call_command("smoketest", format=format_name, traceback=True)
        results = SharedStore(StateFolder(state, 0o600)).latest_results()
        pages = ["", "metrics", "?format=json", *(f"test/{test}/" for test in results)]
        shown += [Client().get(f"/smoketest/{page}").text for page in pages]
    assert any(result.is_problem for result in results.values())
    output = capsys.readouterr()
    shown += [output.out, output.err, caplog.text]
    assert len(output.out) > 1000
    assert not [text for text in shown if PASSWORD in text]
