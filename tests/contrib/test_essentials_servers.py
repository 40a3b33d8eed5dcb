"""Tests of smoketest.contrib.essentials with real servers: databases, Redis and mail."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from tests.contrib.essentials_site import Run, Site
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.redis import Redis
from tests.servers.site import require_module
from tests.servers.smtp import PASSWORD, SMTP, USER

# One worker, so that the servers start once.
pytestmark = pytest.mark.xdist_group(__name__)

ANSWERS = "databases.DefaultDatabaseTest.test_answers"
WRITES = "databases.DefaultDatabaseTest.test_takes_a_write"
MIGRATED = "databases.DefaultMigrationsTest.test_are_all_applied"
CLOCK = "databases.DefaultClockTest.test_agrees_with_the_database"
ALL_PASS = dict.fromkeys((ANSWERS, WRITES, MIGRATED, CLOCK), "passed")

Database = PostgreSQL | MariaDB


def settings_of(server: Database, **changes: str) -> str:
    return f"DATABASES = {{'default': {server.django(**changes)!r}}}\n"


def problems(run: Run) -> dict[str, str]:
    """Return the messages of the tests that did not pass; all of them must have failed."""
    bad = {name for name, outcome in run.outcomes.items() if outcome != "passed"}
    assert {run.outcomes[name] for name in bad} <= {"failed"}, run.outcomes
    return {name: run.messages[name] for name in bad}


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "postgresql":
        require_module("psycopg", "psycopg[binary]")
        with PostgreSQL() as postgresql:
            yield postgresql
    else:
        require_module("pymysql", "PyMySQL")
        with MariaDB() as mariadb:
            yield mariadb


@pytest.fixture(scope="module")
def migrated(server: Database, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("databases") / "site", settings_of(server))
    site.manage("migrate", "-v0")
    return site


@pytest.fixture
def site(migrated: Site, server: Database) -> Iterator[Site]:
    """A migrated site, whose settings are reset after the test."""
    yield migrated
    migrated.configure(settings_of(server))


def dump(server: Database) -> str:
    """Return all rows, and the next values of the sequences."""
    if isinstance(server, PostgreSQL):
        rows = server.sql("SELECT * FROM django_session; SELECT * FROM django_migrations")
        return rows + server.sql("SELECT last_value FROM django_migrations_id_seq")
    return server.sql(
        "SELECT * FROM django_session; SELECT * FROM django_migrations;"
        "SHOW CREATE TABLE django_migrations"
    )


class TestDatabases:
    def test_passes(self, site: Site, server: Database) -> None:
        """All tests pass and change neither rows nor sequences."""
        before = dump(server)
        assert "sessions" in before
        assert site.run("databases").outcomes == ALL_PASS
        site.configure(
            f"{settings_of(server)}INSTALLED_APPS.remove('django.contrib.sessions')\n"
            "INSTALLED_APPS.remove('django.contrib.admin')\n"
            "ROOT_URLCONF = 'smoketest.urls'"
        )
        assert site.run("databases").outcomes == ALL_PASS  # uses the table of migrations
        assert dump(server) == before

    def test_down(self, site: Site, server: Database) -> None:
        server.stop()
        try:
            found = problems(site.run("databases"))
        finally:
            server.start()
        assert set(found) == set(ALL_PASS)
        assert found[ANSWERS].startswith("The database 'default' does not answer: Operational")
        assert "Try: manage.py dbshell --database default" in found[ANSWERS]

    def test_hanging(self, site: Site, server: Database) -> None:
        """The server process is suspended, and each test fails or times out."""
        for pid in server.family():
            os.kill(pid, signal.SIGSTOP)
        try:
            run = site.run("databases.DefaultDatabaseTest.test_answers")
        finally:
            for pid in server.family():
                os.kill(pid, signal.SIGCONT)
        # The timeout of the driver may be shorter.
        assert run.outcomes[ANSWERS] in {"failed", "timed_out"}
        assert run.seconds < 30, "must be less than the deadline of the run"

    def test_read_only(self, site: Site, server: Database) -> None:
        """The server is read-only, like the old primary after a failover."""
        if isinstance(server, PostgreSQL):
            name = "default_transaction_read_only"
            server.sql(f"ALTER DATABASE smoketest SET {name} = on")
            undo = f"BEGIN READ WRITE; ALTER DATABASE smoketest RESET {name}; COMMIT"
            why = "read-only transaction"
        else:
            # Users with more privileges, which a site should not have, could still write.
            server.sql("CREATE USER shop@'%' IDENTIFIED BY 'shop'")
            server.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON smoketest.* TO shop@'%'")
            site.configure(settings_of(server, USER="shop", PASSWORD="shop"))
            server.sql("SET GLOBAL read_only = 1")
            undo = "SET GLOBAL read_only = 0; DROP USER shop@'%'"
            why = "--read-only"
        try:
            found = problems(site.run("databases"))
        finally:
            server.sql(undo)
        assert set(found) == {WRITES}
        assert why in found[WRITES]
        assert "Is it read-only after a failover" in found[WRITES]

    def test_missing_privilege(self, site: Site, server: Database) -> None:
        """The user of the site may read the table, but not write to it."""
        if isinstance(server, PostgreSQL):
            server.sql("CREATE ROLE shop LOGIN")
            server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO shop")
            undo = "DROP OWNED BY shop; DROP ROLE shop"
        else:
            server.sql("CREATE USER shop@'%' IDENTIFIED BY 'shop'")
            server.sql("GRANT SELECT ON smoketest.* TO shop@'%'")
            undo = "DROP USER shop@'%'"
        site.configure(settings_of(server, USER="shop", PASSWORD="shop"))
        try:
            found = problems(site.run("databases"))
        finally:
            server.sql(undo)
        assert set(found) == {WRITES}
        assert "does not accept a new row in django_session" in found[WRITES]
        assert "denied" in found[WRITES]

    @pytest.mark.parametrize("server", ["mariadb"], indirect=True)
    def test_wrong_password(self, site: Site, server: Database) -> None:
        """The message does not contain the password."""
        site.configure(settings_of(server, PASSWORD="not-my-password"))
        found = problems(site.run("databases"))
        assert set(found) == set(ALL_PASS)
        assert "Access denied for user 'smoketest'" in found[ANSWERS]
        assert not any("not-my-password" in message for message in found.values())

    def test_unapplied_migration(self, site: Site, server: Database) -> None:
        site.manage("migrate", "--fake", "sessions", "zero", "-v0")
        try:
            found = problems(site.run("databases"))
        finally:
            site.manage("migrate", "--fake", "sessions", "-v0")
        assert set(found) == {MIGRATED}
        assert "sessions.0001_initial. Run: manage.py migrate --database" in found[MIGRATED]

    def test_clock_difference(self, site: Site, server: Database) -> None:
        """The clock of this process is one minute ahead."""
        site.configure(
            f"{settings_of(server)}import time\n_now = time.time\ntime.time = lambda: _now() + 60\n"
        )
        found = problems(site.run("databases"))
        assert set(found) == {CLOCK}
        match = re.match(
            r"The clock of the database 'default' is (\S+) s behind that of this host;",
            found[CLOCK],
        )
        assert match, found[CLOCK]
        assert 50 < float(match[1]) <= 60, "60 s, less the duration of the query"
        site.configure(
            f"{settings_of(server)}import time\n_now = time.time\n"
            "time.time = lambda: _now() - 60\nSMOKETEST_ESSENTIALS_CLOCK_TOLERANCE = 61\n"
        )
        assert problems(site.run("databases")) == {}

    @pytest.mark.parametrize("server", ["mariadb"], indirect=True)
    def test_table_without_transactions(self, site: Site, server: Database) -> None:
        """No row is written to a table without transactions."""
        server.sql("ALTER TABLE django_session ENGINE = MyISAM")
        try:
            run = site.run("databases")
            left = server.sql("SELECT count(*) FROM django_session")
        finally:
            server.sql("ALTER TABLE django_session ENGINE = InnoDB")
        assert run.outcomes == {**ALL_PASS, WRITES: "skipped"}
        assert "django_session (MyISAM) does not support transactions" in run.messages[WRITES]
        assert left == "0"


CACHE = "caches.DefaultCacheTest.test_sets_gets_and_deletes"


class TestRedis:
    """Tests of Redis as a cache."""

    @pytest.fixture
    def redis(self) -> Iterator[Redis]:
        require_module("redis", "redis")
        with Redis() as redis:
            yield redis

    @pytest.fixture
    def site(self, tmp_path: Path, redis: Redis) -> Site:
        return self.with_cache(Site(tmp_path / "site"), redis.url)

    @staticmethod
    def with_cache(site: Site, location: str) -> Site:
        backend = "django.core.cache.backends.redis.RedisCache"
        site.configure(
            f"CACHES = {{'default': {{'BACKEND': {backend!r}, 'LOCATION': {location!r}}}}}"
        )
        return site

    def test_passes_and_leaves_no_keys(self, site: Site, redis: Redis) -> None:
        assert site.run("caches").outcomes == {CACHE: "passed"}
        assert redis.talk("DBSIZE") == ":0\r\n"

    def test_down(self, site: Site, redis: Redis) -> None:
        redis.stop()
        message = problems(site.run("caches"))[CACHE]
        assert message.startswith("The cache 'default' does not work: ConnectionError: ")
        assert "Connection refused" in message
        assert "is CACHES['default'] correct?" in message

    def test_hanging(self, site: Site, redis: Redis) -> None:
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            run = site.run("caches")
        finally:
            os.kill(redis.pid, signal.SIGCONT)
        assert run.outcomes == {CACHE: "timed_out"}
        assert run.seconds < 30, "must be less than the deadline of the run"

    def test_full(self, site: Site, redis: Redis) -> None:
        redis.talk("CONFIG", "SET", "maxmemory", "1")
        assert "OutOfMemoryError: command not allowed" in problems(site.run("caches"))[CACHE]

    def test_replica(self, site: Site, redis: Redis) -> None:
        """A read-only replica refuses writes."""
        redis.talk("REPLICAOF", "127.0.0.1", "1")
        assert "read only replica" in problems(site.run("caches"))[CACHE]

    def test_wrong_password(self, site: Site, redis: Redis) -> None:
        """The message does not contain the password."""
        redis.talk("CONFIG", "SET", "requirepass", "right-password")
        self.with_cache(site, redis.url.replace("//", "//:wrong-password@"))
        message = problems(site.run("caches"))[CACHE]
        assert "AuthenticationError" in message
        assert "wrong-password" not in message

    def test_read_forbidden(self, site: Site, redis: Redis) -> None:
        """The user may not read the key, and the key is still deleted."""
        redis.talk("ACL", "SETUSER", "shop", "on", ">shop", "~*", "+@all", "-get", "-mget")
        self.with_cache(site, redis.url.replace("//", "//shop:shop@"))
        assert "NoPermissionError" in problems(site.run("caches"))[CACHE]
        assert redis.talk("DBSIZE") == ":0\r\n"


MAIL = "mail.DefaultMailTest.test_server_lets_the_site_in"


class TestMail:
    @pytest.fixture(scope="class")
    @classmethod
    def smtp(cls) -> Iterator[SMTP]:
        with SMTP() as smtp:
            yield smtp

    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        return Site(tmp_path / "site")

    @staticmethod
    def configure(site: Site, **options: object) -> None:
        """Configure mail with the settings of this version of Django; MAILERS since 6.1."""
        options = {"host": "127.0.0.1", **options}
        if django.VERSION >= (6, 1):
            backend = "django.core.mail.backends.smtp.EmailBackend"
            site.configure(
                f"MAILERS = {{'default': {{'BACKEND': {backend!r}, 'OPTIONS': {options}}}}}"
            )
            return
        names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
        lines = (f"EMAIL_{names.get(k, k.upper())} = {v!r}" for k, v in options.items())
        site.configure("\n".join(lines))

    def test_passes(self, site: Site, smtp: SMTP) -> None:
        """The test passes with and without a login, and sends no mail."""
        before = len(smtp.log)
        self.configure(site, port=smtp.port)
        assert site.run("mail").outcomes == {MAIL: "passed"}
        self.configure(site, port=smtp.port, username=USER, password=PASSWORD)
        assert site.run("mail").outcomes == {MAIL: "passed"}
        smtp_log = smtp.log[before:].lower()
        assert smtp_log.count(">> b'auth plain") == 1
        assert ">> b'quit'" in smtp_log
        assert "mail from" not in smtp_log

    def test_wrong_password(self, site: Site, smtp: SMTP) -> None:
        self.configure(site, port=smtp.port, username=USER, password="wrong-password")
        message = problems(site.run("mail"))[MAIL]
        assert message.startswith(
            "Connecting or logging in to the mail server failed: SMTPAuthenticationError: (535, "
        )
        assert "wrong-password" not in message

    def test_tls_not_supported(self, site: Site, smtp: SMTP) -> None:
        """The site requires TLS, which the server does not support."""
        self.configure(site, port=smtp.port, use_tls=True)
        assert "STARTTLS extension not supported" in problems(site.run("mail"))[MAIL]

    @pytest.mark.parametrize("host", [None, ""])
    def test_without_a_host(self, site: Site, host: str | None) -> None:
        """Sending mail would fail, and there is no host name to resolve."""
        self.configure(site, host=host)
        message = problems(site.run("mail"))[MAIL]
        # Django 6.1 does not create a mailer without a host.
        assert re.search("has no host, so no mail can be sent|OPTIONS must define 'host'", message)
        assert not any("HostName" in name for name in site.run("host").outcomes)

    def test_down(self, site: Site) -> None:
        with SMTP() as gone:
            port = gone.port
        self.configure(site, port=port)
        message = problems(site.run("mail"))[MAIL]
        assert "ConnectionRefusedError: [Errno 111] Connection refused." in message

    def test_hanging(self, site: Site) -> None:
        """The test limits the timeout if the site sets none."""
        with SMTP() as smtp:
            os.kill(smtp.pid, signal.SIGSTOP)
            self.configure(site, port=smtp.port)
            run = site.run("mail")
            os.kill(smtp.pid, signal.SIGCONT)
        assert "timed out" in problems(run)[MAIL]
        assert run.seconds < 30, "must be less than the deadline of the run"

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS requires Django 6.1")
    def test_deprecated_settings(self, site: Site, smtp: SMTP) -> None:
        """Deprecated settings work with Django 6.1, and the test causes no other warning."""
        site.configure(
            "import warnings\nwarnings.simplefilter('ignore')\ndel MAILERS\n"
            f"EMAIL_HOST = '127.0.0.1'\nEMAIL_PORT = {smtp.port}\n"
        )
        assert site.run("mail").outcomes == {MAIL: "passed"}

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS requires Django 6.1")
    def test_several_mailers(self, site: Site, smtp: SMTP) -> None:
        """Each mailer has its own test; those without a server are skipped."""
        backends = "django.core.mail.backends"
        site.configure(
            "MAILERS = {"
            f"'default': {{'OPTIONS': {{'host': '127.0.0.1', 'port': {smtp.port}}}}},"
            f"'news': {{'BACKEND': '{backends}.locmem.EmailBackend'}}}}"
        )
        assert site.run("mail").outcomes == {
            MAIL: "passed",
            "mail.NewsMailTest.test_server_lets_the_site_in": "skipped",
        }
