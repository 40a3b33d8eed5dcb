"""Built-in checks on generated projects that have the shape of real sites: no false alarms.

In a healthy site of each shape, no test fails; a skipped test has a reason. In an unhealthy site,
each test fails for its own reason, and the others still pass.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contrib.essentials_site import Run, Site
from tests.servers.processes import free_port
from tests.servers.redis import Redis, Sentinel
from tests.servers.s3 import S3
from tests.servers.site import require_module

# One worker, so that the servers start once.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group(__name__)]

#: Settings of a project as `check --deploy` recommends them.
_DEPLOYED = """
import django
SECRET_KEY = "a-key-of-fifty-characters-for-the-checks-of-a-deployment-0123456789"
SECURE_HSTS_SECONDS = 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_SSL_REDIRECT = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SILENCED_SYSTEM_CHECKS = ["mail.E001", "security.W025"]
STATIC_ROOT = BASE_DIR / "static"
SMOKETEST_TOKENS = ["a-token-of-some-length"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
"""


def assert_no_alarm(run: Run) -> None:
    alarms = {name: run.messages[name] for name in problems(run)}
    assert alarms == {}
    assert all(run.messages[name] for name, outcome in run.outcomes.items() if outcome == "skipped")


def problems(run: Run) -> set[str]:
    return {name for name, outcome in run.outcomes.items() if outcome not in {"passed", "skipped"}}


def write(site: Site, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = site.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# A content management system that renders images, as Wagtail does

_IMAGES = {
    "home/__init__.py": "",
    "home/models.py": """
from django.db import models

class Rendition(models.Model):
    width = models.IntegerField()
    file = models.FileField(upload_to="images")
""",
    "home/urls.py": """
from django.core.files.base import ContentFile
from django.http import Http404, HttpResponse
from django.urls import path
from home.models import Rendition

def page(request, path):
    if path:
        raise Http404
    for width in (200, 400, 800):
        if not Rendition.objects.filter(width=width).exists():
            rendition = Rendition(width=width)
            rendition.file.save(f"tea.width-{width}.txt", ContentFile(b"image"))
    return HttpResponse("home")

urlpatterns = [path("<path:path>", page), path("", page, {"path": ""})]
""",
    "home/smoke.py": """
from smoketest import SmokeTest

class HomeTest(SmokeTest):
    def test_page(self):
        self.assertEqual(self.client.get("/").status_code, 200)
        names = {file.name for file in self.client.saved_files}
        self.assertEqual(len(names), 3, names)
""",
    "templates/404.html": "{{ request.get_full_path }} {{ request.user }} was not found",
}


def test_images(tmp_path: Path) -> None:
    """Pages render images, and a catch-all URL pattern serves them."""
    site = Site(
        tmp_path / "site",
        f"{_DEPLOYED}INSTALLED_APPS.append('home')\nROOT_URLCONF = 'home.urls'\n"
        "MEDIA_ROOT = BASE_DIR / 'media'\nTEMPLATES[0]['DIRS'] = [BASE_DIR / 'templates']\n",
    )
    write(site, _IMAGES)
    site.manage("makemigrations", "home", "-v0")
    site.manage("migrate", "-v0")
    first = site.run_ids()
    assert_no_alarm(first)
    assert first.outcomes["home.smoke.HomeTest.test_page"] == "passed"
    files = set((site.folder / "media" / "images").iterdir())
    assert len(files) == 3
    assert_no_alarm(site.run_ids())
    assert files < set((site.folder / "media" / "images").iterdir())  # nothing is deleted


# Redis behind Sentinel

_SENTINEL = """
DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"
CACHES = {{"default": {{
    "BACKEND": "django_redis.cache.RedisCache",
    "LOCATION": "redis://mymaster/0",
    "OPTIONS": {{
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "SENTINELS": [("127.0.0.1", {port})],
    }},
}}}}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
INSTALLED_APPS.append("smoketest.contrib.redis")
"""


def test_sentinel(tmp_path: Path) -> None:
    """The LOCATION of the cache is the name of a service, which does not resolve."""
    require_module("django_redis", "django-redis")
    with Redis() as redis, Sentinel(redis, "mymaster") as sentinel:
        site = Site(tmp_path / "site", _DEPLOYED + _SENTINEL.format(port=sentinel.port))
        site.manage("migrate", "-v0")
        run = site.run_ids()
        assert_no_alarm(run)
        assert run.outcomes["caches.DefaultCacheTest.test_sets_gets_and_deletes"] == "passed"
        message = run.messages["smoketest.contrib.redis.smoke.CacheDefaultRedisTest.test_answers"]
        assert "uses Sentinel" in message
        redis.stop()
        assert problems(site.run("caches", "host")) == {
            "caches.DefaultCacheTest.test_sets_gets_and_deletes"
        }


# Media on S3, with the permissions to read, write and delete


def test_s3_with_least_privilege(tmp_path: Path) -> None:
    with S3() as s3:
        s3.allow("GetObject", "PutObject", "DeleteObject")
        site = Site(tmp_path / "site", f"{_DEPLOYED}STORAGES['default'] = {s3.storage()!r}\n")
        site.manage("migrate", "-v0")
        for _ in range(2):
            run = site.run_ids()
            assert_no_alarm(run)
            assert run.outcomes["storages.DefaultStorageTest.test_writes_reads_and_deletes"] == (
                "passed"
            )
        assert s3.keys() == []


# Only an API, without templates, sessions, static files and users

_API = """
INSTALLED_APPS = ["smoketest", "smoketest.contrib.essentials"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
TEMPLATES = []
ROOT_URLCONF = "api"
SILENCED_SYSTEM_CHECKS = ["mail.E001", "security.W025", "security.W002", "security.W003"]
"""
_API_URLS = """
from django.http import JsonResponse

urlpatterns = []

def answer(status):
    return lambda request, exception=None: JsonResponse({"status": status}, status=status)

handler400, handler403, handler404, handler500 = map(answer, (400, 403, 404, 500))
"""


@pytest.mark.parametrize("urls", [_API_URLS, "urlpatterns = []"])
@pytest.mark.parametrize("databases", ["", "DATABASES = {}\n"])
def test_api_without_templates(tmp_path: Path, urls: str, databases: str) -> None:
    """With the error handlers of the site or of Django, and with or without a database."""
    site = Site(tmp_path / "site", _DEPLOYED + _API + databases)
    write(site, {"api.py": urls})
    if not databases:
        site.manage("migrate", "-v0")
    run = site.run_ids()
    assert_no_alarm(run)
    pages = [run.outcomes[name] for name in run.outcomes if "ErrorPagesTest" in name]
    assert pages == ["passed"] * 5


# A site that uses everything, and its faults


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(
        tmp_path_factory.mktemp("healthy") / "site",
        f"""{_DEPLOYED}
MEDIA_ROOT = BASE_DIR / "media"
CACHES = {{"default": {{"BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                        "LOCATION": "unique-snowflake"}}}}
STORAGES["staticfiles"]["BACKEND"] = (
    "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
)
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
""",
    )
    site.manage("migrate", "-v0")
    site.manage("collectstatic", "--noinput", "-v0")
    return site


def _remove_a_migration(site: Site) -> None:
    site.manage("migrate", "--fake", "sessions", "zero", "-v0")


def _remove_the_manifest(site: Site) -> None:
    (site.folder / "static" / "staticfiles.json").unlink()


def _break_a_template(site: Site) -> None:
    write(site, {"templates/403.html": "{% no_such_tag %}"})


_REDIS = f"""
CACHES["default"] = {{
    "BACKEND": "django.core.cache.backends.redis.RedisCache",
    "LOCATION": "redis://127.0.0.1:{free_port()}",
}}
"""
_MAIL = f"""
if django.VERSION < (6, 1):
    EMAIL_HOST, EMAIL_PORT = "127.0.0.1", {free_port()}
else:
    MAILERS = {{"default": {{"OPTIONS": {{"host": "127.0.0.1", "port": {free_port()}}}}}}}
"""

#: Settings or a change that break a site, the tests that fail, and a part of their messages.
FAULTS: dict[str, tuple[str | Callable[[Site], None], set[str], str]] = {
    "a database that cannot be opened": (
        "DATABASES['archive'] = {**DATABASES['default'], 'NAME': '/dev/null/nowhere/db.sqlite3'}",
        {
            "databases.ArchiveDatabaseTest.test_answers",
            "databases.ArchiveDatabaseTest.test_takes_a_write",
            "databases.ArchiveMigrationsTest.test_are_all_applied",
        },
        "unable to open database file",
    ),
    "a cache on a missing server": (
        _REDIS,
        {"caches.DefaultCacheTest.test_sets_gets_and_deletes"},
        "Is its server running and reachable",
    ),
    "media that cannot be written": (
        "MEDIA_ROOT = '/proc/1'",
        {"storages.DefaultStorageTest.test_writes_reads_and_deletes"},
        "The storage 'default' does not work",
    ),
    "a full disk": (
        "SMOKETEST_ESSENTIALS_MIN_FREE_DISK, SMOKETEST_ESSENTIALS_ENOUGH_FREE_DISK = 1, 2**60",
        {"host.MediaDiskTest.test_has_room"},
        "SMOKETEST_ESSENTIALS_MIN_FREE_DISK is 1",
    ),
    "little memory": (
        "SMOKETEST_ESSENTIALS_MIN_FREE_MEMORY, SMOKETEST_ESSENTIALS_ENOUGH_FREE_MEMORY = 1, 2**60",
        {"host.MemoryTest.test_is_left"},
        "SMOKETEST_ESSENTIALS_MIN_FREE_MEMORY is 1",
    ),
    "a host name that does not resolve": (
        "SMOKETEST_ESSENTIALS_HOSTS = ['no-such-host.invalid']",
        {"host.NoSuchHostInvalidHostNameTest.test_resolves"},
        "no-such-host.invalid does not resolve",
    ),
    "a missing mail server": (
        _MAIL,
        {"mail.DefaultMailTest.test_server_lets_the_site_in"},
        "Connecting or logging in to the mail server failed",
    ),
    "a setting with an error": (
        "STATICFILES_DIRS = [STATIC_ROOT]",
        {"system_checks.SystemChecksTest.test_find_no_errors"},
        "staticfiles.E002",
    ),
    "an insecure setting": (
        "CSRF_COOKIE_SECURE = False",
        {"system_checks.SystemChecksTest.test_are_ready_for_production"},
        "security.W016",
    ),
    "an unapplied migration": (
        _remove_a_migration,
        {"databases.DefaultMigrationsTest.test_are_all_applied"},
        "has unapplied migrations (1): sessions.0001_initial",
    ),
    "a template with an error": (
        _break_a_template,
        {"pages.ErrorPagesTest.test_permission_denied"},
        "403.html does not render: TemplateSyntaxError",
    ),
    "a missing manifest": (
        _remove_the_manifest,
        {"pages.StaticFilesTest.test_are_all_there"},
        "There is no manifest staticfiles.json",
    ),
}


def test_healthy(healthy: Site) -> None:
    assert_no_alarm(healthy.run())


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(healthy: Site, tmp_path: Path, fault: str) -> None:
    """Only the tests of the fault fail, with a message about it."""
    change, failing, part = FAULTS[fault]
    settings = healthy.settings
    # Changes are made in a copy of the directory.
    site = healthy.copy(tmp_path / "site")
    if isinstance(change, str):
        site.configure(f"{settings}{change}\n")
    else:
        change(site)
    run = site.run()
    found = problems(run)
    if fault == "a setting with an error":  # errors are reported by `check --deploy` as well
        found.discard("system_checks.SystemChecksTest.test_are_ready_for_production")
    assert found == failing, run.messages
    assert all(part in run.messages[name] for name in failing), run.messages


def test_each_test_has_a_fault(healthy: Site) -> None:
    """Each test that is defined for this site fails for one of the faults.

    The clocks of databases are tested with servers, and the tests of the other error pages in
    `tests.contrib.test_error_pages`.
    """
    tested = {name.rpartition(".")[2] for _, names, _ in FAULTS.values() for name in names}
    defined = {name.rpartition(".")[2] for name in healthy.run().outcomes}
    pages = {"test_bad_request", "test_csrf_failure", "test_page_not_found", "test_server_error"}
    assert defined - pages <= tested
