"""The client of smoke tests, which requests pages of the site in process."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core import mail
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.handlers.wsgi import WSGIHandler
from django.core.mail import EmailMessage, send_mail
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connection, connections, transaction
from django.dispatch import Signal
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import Client, override_settings
from django.test.client import RequestFactory
from django.urls import get_script_prefix, include, path, reverse
from django.utils import timezone, translation
from django.utils.decorators import async_only_middleware
from django.views.generic import RedirectView

import smoketest.client
from smoketest import SmokeTest
from smoketest.results import Report
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, Apps, options, outcomes, result_of
from tests.ledger.models import Account
from tests.servers.processes import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    # Ways to send mail that newer versions of Django deprecate.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

#: Events recorded by the code of the site.
events: list[str] = []
#: Events with which a view and a test wait for each other.
meetings: dict[str, threading.Event] = {}

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


# The site


def describe(request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
    """Return the attributes of the request as JSON."""
    return JsonResponse(
        {
            "url": request.build_absolute_uri(),
            "port": request.get_port(),
            "secure": request.is_secure(),
            "ip": request.META["REMOTE_ADDR"],
            "agent": request.headers["User-Agent"],
            "reversed": reverse("order"),
            "proxied": request.headers.get("X-Forwarded-Proto"),
        }
    )


def order(request: HttpRequest) -> HttpResponse:
    """Write to the database and the session, register an on_commit hook and send mail."""
    with transaction.atomic(durable=True):
        Account.objects.create(name=request.POST["name"])
        transaction.on_commit(lambda: events.append("committed"))
    request.session["basket"] = "full"
    message("order").send()
    return HttpResponse(f"{request.user} has ordered", status=201)


def login(request: HttpRequest) -> HttpResponse:
    from django.contrib import auth  # noqa: PLC0415 - needs its app

    user = auth.authenticate(request, username=request.POST["name"], password=request.POST["word"])
    if user is None:
        return HttpResponse("who?", status=403)
    auth.login(request, user)
    return HttpResponseRedirect("/describe/")


def fail(_: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("the page is at fault")


def speak_german(_: HttpRequest) -> HttpResponse:
    translation.activate("de")
    timezone.activate("Asia/Kathmandu")
    return HttpResponse(get_script_prefix())


def stream(_: HttpRequest) -> StreamingHttpResponse:
    def chunks() -> Iterator[str]:
        try:
            for number in range(3):
                message(f"chunk {number}").send()
                yield f"{number},"
        finally:
            events.append("closed")

    return StreamingHttpResponse(chunks())


async def stream_async(_: HttpRequest) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[str]:
        for number in range(3):
            await sync_to_async(message(f"chunk {number}").send)()
            yield f"{number},"

    return StreamingHttpResponse(chunks())


async def order_async(_: HttpRequest) -> HttpResponse:
    await Account.objects.acreate(name="async")
    await sync_to_async(message("async").send)()
    return HttpResponse(f"{await Account.objects.acount()} accounts")


def meet(_: HttpRequest) -> HttpResponse:
    """Wait in the view until the test continues."""
    meetings["inside"].set()
    assert meetings["outside"].wait(60)
    message("met").send()
    return HttpResponse("met")


def hang(_: HttpRequest) -> HttpResponse:
    Account.objects.create(name="hung")
    meetings["outside"].wait(60)
    events.append("woken")
    try:
        Account.objects.create(name="too late")
    except Exception as error:
        events.append(type(error).__name__)
        raise
    return HttpResponse()


def break_connection(_: HttpRequest) -> HttpResponse:
    Account.objects.create(name="lost")
    connection.close()
    return HttpResponse()


def message(subject: str, **more: Any) -> EmailMessage:
    return EmailMessage(subject, "text", "shop@shop.example", ["visitor@example.com"], **more)


class DuckTypedBackend:
    """A mail backend that does not extend Django's."""

    def __init__(self, **_: Any) -> None: ...

    def send_messages(self, messages: list[EmailMessage]) -> int:
        events.extend(f"sent {message.subject}" for message in messages)
        return len(messages)


@async_only_middleware
def async_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    events.append("made")

    async def middleware(request: HttpRequest) -> Any:
        await asyncio.sleep(0)
        response = await get_response(request)
        response["X-Async"] = "yes"
        return response

    return middleware


def slow_middleware(get_response: Callable[[HttpRequest], Any]) -> Any:
    events.append("made")
    time.sleep(0.2)
    return get_response


PAGES = (
    path("describe/", describe, name="describe"),
    path("order/", order, name="order"),
    path("login/", login),
    path("fail/", fail),
    path("german/", speak_german),
    path("stream/", stream),
    path("stream-async/", stream_async),
    path("order-async/", order_async),
    path("redirect/", RedirectView.as_view(url="/describe/?a=1")),
    path("meet/", meet),
    path("hang/", hang),
    path("break/", break_connection),
    path("smoketest/", include("smoketest.urls")),
)

SETTINGS: dict[str, Any] = {
    "ROOT_URLCONF": PAGES,
    "ALLOWED_HOSTS": ["shop.example"],
    "DEBUG": False,
    "SESSION_ENGINE": "django.contrib.sessions.backends.db",
    "EMAIL_BACKEND": LOCMEM,
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "MIDDLEWARE": [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
}

RunOnSite = Callable[..., Report]


@pytest.fixture
def run_on_site(apps: Apps, tmp_path: Path) -> Iterator[RunOnSite]:
    """Run smoke tests, the methods of a single class, on a site with accounts.

    `settings` are those of the site; other keyword arguments are run options.
    """
    own_apps = ["contenttypes", "auth", "sessions"]
    site = override_settings(
        INSTALLED_APPS=[f"django.contrib.{name}" for name in own_apps] + ["tests.ledger"],
        **SETTINGS,
    )
    with site:
        models = _models()
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        user = models[-2].objects.create_user("clerk", password="secret")
        assert user.pk

        def run_tests(methods: str, settings: Any = None, **changes: object) -> Report:
            apps.add("class T(SmokeTest):\n" + indent(methods, "    "))
            installed = [f"django.contrib.{name}" for name in own_apps]
            installed += ["tests.ledger", "smoketest", *apps.names]
            state = str(tmp_path / "state")
            with override_settings(
                INSTALLED_APPS=installed, SMOKETEST_STATE_DIR=state, **(settings or {})
            ):
                return run(
                    find(EVERYTHING, options(**changes)),
                    EVERYTHING,
                    options(**changes),
                    abandoned=LocallyAbandoned(),
                    carried={},
                )

        events.clear()
        meetings.update(inside=threading.Event(), outside=threading.Event())
        mail.outbox = []
        cache.clear()
        yield run_tests
        meetings["outside"].set()
        with connection.schema_editor() as editor:
            for model in reversed(models):
                editor.delete_model(model)


def _models() -> list[Any]:
    from django.contrib.auth.models import Group, Permission, User  # noqa: PLC0415
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415
    from django.contrib.sessions.models import Session  # noqa: PLC0415

    return [ContentType, Permission, Group, User, Session]


def assert_passed(report: Report) -> None:
    assert [(r.outcome, r.message, r.traceback) for r in report.results] == [
        ("passed", "", "") for _ in report.results
    ]
    assert report.results


def dump() -> list[str]:
    """Return the content of the databases, read without Django."""
    lines: list[str] = []
    for alias in connections:
        with closing(sqlite3.connect(str(connections.settings[alias]["NAME"]))) as direct:
            lines += direct.iterdump()
    return lines


BUY = """\
def test_buy(self):
    response = self.client.post("/login/", {"name": "clerk", "word": "secret"}, follow=True)
    self.assertEqual(response.status_code, 200)
    self.assertEqual(response.redirect_chain, [("/describe/", 302)])
    response = self.client.post("/order/", {"name": "bought"})
    self.assertEqual((response.status_code, response.text), (201, "clerk has ordered"))
    self.assertEqual(self.client.session["basket"], "full")
    self.assertTrue(Account.objects.filter(name="bought").exists())
    self.assertEqual([message.subject for message in self.client.outbox], ["order"])
"""

ENGINES = [f"django.contrib.sessions.backends.{name}" for name in ("db", "cache", "cached_db")]


# Cleanup


@pytest.mark.parametrize("workers", [0, 2], ids=["inline", "threads"])
def test_login_and_order(run_on_site: RunOnSite, workers: int) -> None:
    """A page can log in, write and send mail; everything is undone after the test."""
    before = dump()
    assert_passed(run_on_site(BUY, workers=workers))
    assert dump() == before
    assert any("clerk" in line for line in before)
    assert events == []  # no hook ran
    assert mail.outbox == []


def test_force_login(run_on_site: RunOnSite) -> None:
    """force_login() works without a password, and its session is removed."""
    before = dump()
    report = run_on_site("""\
def test_it(self):
    from django.contrib.auth.models import User
    self.client.force_login(User.objects.get(username="clerk"))
    self.assertEqual(self.client.post("/order/", {"name": "x"}).text, "clerk has ordered")
    self.client.logout()
    self.assertEqual(self.client.post("/order/", {"name": "y"}).text, "AnonymousUser has ordered")
""")
    assert_passed(report)
    assert dump() == before


@pytest.mark.parametrize("engine", ENGINES)
def test_sessions__are_removed(run_on_site: RunOnSite, engine: str) -> None:
    """Sessions are removed from backends that are not rolled back, too."""
    before = dump()
    assert_passed(run_on_site(BUY, {"SESSION_ENGINE": engine}))
    assert cache._cache == {}  # type: ignore[attr-defined] # of LocMemCache
    assert dump() == before


def test_sessions__in_files_are_removed(run_on_site: RunOnSite, tmp_path: Path) -> None:
    """Sessions in files are removed after a failed test."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    report = run_on_site(
        f"{BUY}    self.assertEqual(len(list(__import__('pathlib').Path({str(folder)!r})"
        ".iterdir())), 1)\n    self.fail('in the end')\n",
        {
            "SESSION_ENGINE": "django.contrib.sessions.backends.file",
            "SESSION_FILE_PATH": str(folder),
        },
    )
    assert [r.message for r in report.results] == ["in the end"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_sessions__after_broken_transaction(run_on_site: RunOnSite, engine: str) -> None:
    """After a broken transaction, sessions are removed from the cache without the database."""
    report = run_on_site(
        """\
def test_it(self):
    self.client.post("/order/", {"name": "x"})
    with self.assertRaises(ValueError), transaction.atomic(savepoint=False):
        raise ValueError
""",
        {"SESSION_ENGINE": engine},
    )
    assert_passed(report)
    assert cache._cache == {}  # type: ignore[attr-defined] # of LocMemCache


def test_sessions__of_others_are_kept(run_on_site: RunOnSite) -> None:
    """A session that a test reuses is not removed."""
    engine = "django.contrib.sessions.backends.cache"
    with override_settings(SESSION_ENGINE=engine):
        visitor = Client(headers={"host": "shop.example"})
        key = visitor.session.session_key
        assert key
        report = run_on_site(f"""\
def test_it(self):
    self.client.cookies["sessionid"] = {key!r}
    self.assertEqual(self.client.post("/order/", {{"name": "x"}}).status_code, 201)
    self.assertEqual(self.client.session.session_key, {key!r})
""")
        assert_passed(report)
        assert visitor.session.exists(key)


def test_language_and_time_zone__are_reset(run_on_site: RunOnSite) -> None:
    report = run_on_site(
        """\
def test_it(self):
    from django.urls import get_script_prefix, get_urlconf
    from django.utils import timezone, translation
    def now():
        return (
            translation.get_language(), timezone.get_current_timezone_name(),
            get_script_prefix(), get_urlconf(),
        )
    before = now()
    self.assertEqual(self.client.get("/german/", SCRIPT_NAME="/shop").text, "/shop/")
    self.assertEqual(now(), before)
""",
        workers=0,
    )
    assert_passed(report)


@pytest.mark.parametrize("max_age", [0, None])
def test_connection__is_kept_between_requests(run_on_site: RunOnSite, max_age: int | None) -> None:
    """Closing connections at the end of a request does not end the transaction of the test."""
    before = dump()
    with override_settings():
        settings = connections.settings["default"]
        kept, settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"], max_age
        try:
            report = run_on_site("""\
def test_it(self):
    self.client.post("/order/", {"name": "first"})
    driver = connection.connection
    self.client.post("/order/", {"name": "second"})
    self.assertIs(connection.connection, driver)
    self.assertEqual(Account.objects.count(), 2)
""")
        finally:
            settings["CONN_MAX_AGE"] = kept
    assert_passed(report)
    assert dump() == before


def test_connection__closed_by_a_view(run_on_site: RunOnSite) -> None:
    """If a view closes the connection, the test is errored and everything is rolled back."""
    before = dump()
    report = run_on_site("""\
def test_lost(self):
    self.client.get("/break/")
    self.client.post("/order/", {"name": "after"})

def test_next(self):
    self.assertEqual(self.client.post("/order/", {"name": "next"}).status_code, 201)
    self.assertEqual([a.name for a in Account.objects.all()], ["next"])
""")
    assert outcomes(report) == {"test_lost": "errored", "test_next": "passed"}
    assert dump() == before


def test_timeout__hanging_view(run_on_site: RunOnSite) -> None:
    """If a view hangs, the test times out, and the view can no longer write or send mail."""
    before = dump()
    # The timeout is long enough to write before the view hangs.
    report = run_on_site("timeout = 3\ndef test_it(self):\n    self.client.get('/hang/')\n")
    assert outcomes(report) == {"test_it": "timed_out"}
    assert events == [], "the view still hangs"
    meetings["outside"].set()
    wait_for(lambda: events, lambda seen: len(seen) == 2, what="the end of the view")
    assert events == ["woken", "IsolationError"]
    assert dump() == before


@pytest.mark.parametrize("is_atomic", [True, False])
def test_atomic_requests(run_on_site: RunOnSite, is_atomic: bool) -> None:
    """With ATOMIC_REQUESTS, each request is a nested transaction of the test."""

    def write_and_fail(_: HttpRequest) -> HttpResponse:
        Account.objects.create(name="half")
        raise ZeroDivisionError

    settings = connections.settings["default"]
    kept, settings["ATOMIC_REQUESTS"] = settings["ATOMIC_REQUESTS"], is_atomic
    before = dump()
    try:
        report = run_on_site(
            f"""\
def test_it(self):
    Account.objects.create(name="mine")
    self.client.raise_request_exception = False
    self.assertEqual(self.client.get("/").status_code, 500)
    self.assertEqual(Account.objects.filter(name="half").exists(), {not is_atomic})
    self.assertTrue(Account.objects.filter(name="mine").exists())
""",
            {"ROOT_URLCONF": (path("", write_and_fail),)},
        )
    finally:
        settings["ATOMIC_REQUESTS"] = kept
    assert_passed(report)
    assert dump() == before


# Host and scheme


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://shop.example/describe/"),
        ({"ALLOWED_HOSTS": ["*"]}, "http://localhost/describe/"),
        ({"ALLOWED_HOSTS": ["*", ".shop.example"]}, "http://shop.example/describe/"),
        ({"ALLOWED_HOSTS": ["[::1]"]}, "http://[::1]/describe/"),
        ({"ALLOWED_HOSTS": [], "DEBUG": True}, "http://localhost/describe/"),
        ({"SECURE_SSL_REDIRECT": True}, "https://shop.example/describe/"),
        (
            {
                "SECURE_SSL_REDIRECT": True,
                "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
            },
            "https://shop.example/describe/",
        ),
        (
            {
                "SMOKETEST_PUBLIC_URL": "https://www.shop.example",
                "ALLOWED_HOSTS": [".shop.example"],
            },
            "https://www.shop.example/describe/",
        ),
        (
            {"SMOKETEST_PUBLIC_URL": "http://shop.example:8080"},
            "http://shop.example:8080/describe/",
        ),
        # The public URL is that of a proxy, whose host the site does not allow.
        ({"SMOKETEST_PUBLIC_URL": "https://proxy.example"}, "https://shop.example/describe/"),
        ({"FORCE_SCRIPT_NAME": "/mounted"}, "http://shop.example/mounted/describe/"),
        (
            {"SMOKETEST_PUBLIC_URL": "https://shop.example/mounted/"},
            "https://shop.example/mounted/describe/",
        ),
    ],
)  # fmt: skip
def test_base_url(run_on_site: RunOnSite, settings: dict[str, Any], url: str) -> None:
    """Requests use a host and a scheme that the site accepts without a redirect."""
    mount = "/mounted" if "/mounted/" in url else ""
    report = run_on_site(
        f"""\
def test_it(self):
    seen = self.client.get("/describe/").json()
    self.assertEqual(seen["url"], {url!r})
    self.assertEqual(seen["secure"], {url.startswith("https")})
    self.assertEqual(seen["port"], {"8080" if "8080" in url else "443" if "https" in url else "80"!r})
    self.assertEqual((seen["ip"], seen["agent"]), ("127.0.0.1", "django-smoketest"))
    self.assertEqual(seen["reversed"], "{mount}/order/")
    self.assertEqual(seen["proxied"], {"https" if "SECURE_PROXY_SSL_HEADER" in settings else None!r})
    self.assertEqual(self.client.get("{mount}/describe/").json(), seen)
""",  # noqa: E501
        settings,
    )
    assert_passed(report)


def test_headers(run_on_site: RunOnSite) -> None:
    """Headers of a request override host and user agent; disallowed hosts are rejected."""
    report = run_on_site(
        """\
def test_it(self):
    seen = self.client.get("/describe/", headers={"host": "b.example", "user-agent": "me"}).json()
    self.assertEqual((seen["url"], seen["agent"]), ("http://b.example/describe/", "me"))
    self.assertEqual(self.client.get("/describe/", headers={"host": "c.example"}).status_code, 400)
    self.assertTrue(self.client.get("/describe/", secure=True).json()["secure"])
""",
        {"ALLOWED_HOSTS": ["a.example", "b.example"]},
    )
    assert_passed(report)


# Other requests of the process


SIGNALS = (request_started, request_finished, got_request_exception)


ALL_PAGES = """\
def test_it(self):
    self.client.post("/order/", {"name": "x"})
    b"".join(self.client.get("/stream/"))
    self.client.get("/order-async/")
    with self.assertRaises(ZeroDivisionError):
        self.client.get("/fail/")
"""


def test_signal_receivers__are_not_changed(
    run_on_site: RunOnSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client connects and disconnects no receivers of request signals."""
    calls: list[str] = []
    for name in ("connect", "disconnect"):
        original = getattr(Signal, name)

        def note(
            self: Signal, *args: Any, name: str = name, call: Any = original, **kw: Any
        ) -> Any:
            if self in SIGNALS:
                calls.append(name)
            return call(self, *args, **kw)

        monkeypatch.setattr(Signal, name, note)
    before = [list(signal.receivers) for signal in SIGNALS]
    assert_passed(run_on_site(ALL_PAGES))
    assert calls == []
    assert [signal.receivers for signal in SIGNALS] == before

    with suppress(ZeroDivisionError):  # Django's client connects receivers
        Client(headers={"host": "shop.example"}).get("/fail/")
    assert set(calls) == {"connect", "disconnect"}


def test_signals__are_sent_once(run_on_site: RunOnSite) -> None:
    """request_started and request_finished are sent once per request, as by a server."""

    def started(**_: Any) -> None:
        events.append("started")

    def finished(**_: Any) -> None:
        events.append("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        report = run_on_site(
            "def test_it(self):\n"
            "    self.client.get('/describe/')\n"
            "    b''.join(self.client.get('/stream/'))\n"
            "    next(iter(self.client.get('/stream/')))\n"  # not read completely
            "    self.client.get('/stream/')\n"
        )
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert_passed(report)
    assert events == [
        "started", "finished",
        "started", "closed", "finished",
        "started", "started",
        "finished", "closed", "finished",
    ]  # fmt: skip


def test_exception__of_another_request(run_on_site: RunOnSite) -> None:
    """An exception in a concurrent request of a visitor does not affect the test."""

    def note(status: str, *_: Any) -> Any:
        events.append(status)

    def visit() -> None:
        assert meetings["inside"].wait(60)
        environ = RequestFactory(headers={"host": "shop.example"}).get("/fail/").environ
        WSGIHandler()(environ, note)
        meetings["outside"].set()

    visitor = threading.Thread(target=visit)
    visitor.start()
    report = run_on_site(
        "def test_it(self):\n    self.assertEqual(self.client.get('/meet/').text, 'met')\n"
    )
    visitor.join()
    assert_passed(report)
    assert events == ["500 Internal Server Error"]


def test_exception__of_a_view(run_on_site: RunOnSite) -> None:
    """An exception in a view is raised in the test."""
    report = run_on_site("def test_it(self):\n    self.client.get('/fail/')\n")
    result = result_of(report, "test_it")
    assert (result.outcome, result.exception) == ("errored", "ZeroDivisionError")
    assert result.message == "the page is at fault"
    assert "in fail" in result.traceback
    assert "smoketest/client.py" not in result.traceback


def test_error_page(run_on_site: RunOnSite, caplog: pytest.LogCaptureFixture) -> None:
    """With raise_request_exception=False, the error page is returned and logged as usual."""
    report = run_on_site("""\
def test_it(self):
    self.client.raise_request_exception = False
    response = self.client.get("/fail/")
    self.assertEqual(response.status_code, 500)
    self.assertIn("Server Error (500)", response.text)
    self.assertIs(response.exc_info[0], ZeroDivisionError)
    self.assertIsNone(self.client.get("/describe/").exc_info)
    self.assertEqual(self.client.get("/nowhere/").status_code, 404)
""")
    assert_passed(report)
    logged = [r.getMessage() for r in caplog.records if r.name == "django.request"]
    assert logged == ["Internal Server Error: /fail/", "Not Found: /nowhere/"]


def test_middleware__is_loaded_once(run_on_site: RunOnSite) -> None:
    settings = {"MIDDLEWARE": ["tests.test_client.async_middleware"]}
    report = run_on_site(
        "def test_a(self):\n    self.assertEqual(self.client.get('/german/')['X-Async'], 'yes')\n"
        "def test_b(self):\n    self.assertEqual(self.client.get('/german/')['X-Async'], 'yes')\n",
        settings,
    )
    assert_passed(report)
    assert events == ["made"]


def test_middleware__is_loaded_once_by_concurrent_threads() -> None:
    events.clear()
    with override_settings(**SETTINGS | {"MIDDLEWARE": ["tests.test_client.slow_middleware"]}):
        clients = [smoketest.client.SmokeClient() for _ in range(3)]
        threads = [threading.Thread(target=client.get, args=["/german/"]) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert events == ["made"]


def test_import__does_not_load_the_test_framework() -> None:
    code = (
        "import sys, smoketest;"
        "assert not [name for name in sys.modules if name.startswith('django.test')];"
        "assert 'smoketest.client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Mail

OLD_CONNECTION = None


def _send_inside() -> None:
    with mail.get_connection() as server:
        server.send_messages([message("s")])


MAIL_APIS: dict[str, Callable[[], object]] = {
    "send_mail": lambda: send_mail("s", "t", "a@shop.example", ["b@example.com"]),
    "message": lambda: message("s").send(),
    "own connection": lambda: mail.get_connection().send_messages([message("s")]),
    "own backend": lambda: mail.get_connection(LOCMEM).send_messages([message("s")]),
    "connection of a message": lambda: message("s", connection=mail.get_connection()).send(),
    "with": _send_inside,
    "older connection": lambda: OLD_CONNECTION.send_messages([message("s")]),  # type: ignore[attr-defined]
    "admins": lambda: mail.mail_admins("s", "t"),
}


def send(_: HttpRequest, api: str) -> HttpResponse:
    MAIL_APIS[api]()
    return HttpResponse()


BACKENDS = [
    LOCMEM,
    "django.core.mail.backends.smtp.EmailBackend",  # no server listens at this port
    "django.core.mail.backends.console.EmailBackend",
]
#: Backends that do not extend Django's are only intercepted by `EmailMessage.send`.
OTHER_BACKEND = "tests.test_client.DuckTypedBackend"
OTHER_BACKEND_APIS = ["send_mail", "message", "connection of a message", "admins"]


@pytest.mark.parametrize(
    ("backend", "api"),
    [
        *((backend, api) for backend in BACKENDS for api in MAIL_APIS),
        *((OTHER_BACKEND, api) for api in OTHER_BACKEND_APIS),
    ],
)
def test_mail__is_not_sent(
    run_on_site: RunOnSite,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    api: str,
) -> None:
    """Mail stays in the outbox of the client, whichever API and backend sends it."""
    settings = {
        "EMAIL_BACKEND": backend,
        "EMAIL_PORT": 9,
        "ADMINS": [("Admin", "admin@shop.example")],
        "ROOT_URLCONF": (path("<api>/", send),),
    }
    with override_settings(**settings):
        monkeypatch.setattr("tests.test_client.OLD_CONNECTION", mail.get_connection())
        report = run_on_site(
            f"def test_it(self):\n"
            f"    self.client.get('/{api}/')\n"
            f"    self.assertEqual([m.subject[-1] for m in self.client.outbox], ['s'])\n"
        )
    assert_passed(report)
    assert mail.outbox == []
    assert events == []
    assert capsys.readouterr().out == ""


def test_mail__invalid_header(run_on_site: RunOnSite) -> None:
    """An invalid header is an error, as with a real backend."""
    settings = {"ROOT_URLCONF": (path("", lambda _: HttpResponse(message("a\nb").send())),)}
    report = run_on_site("def test_it(self):\n    self.client.get('/')\n", settings)
    assert "newline" in report.results[0].message.lower() or "Header" in report.results[0].message
    assert report.results[0].outcome == "errored"


def test_mail__no_recipients(run_on_site: RunOnSite) -> None:
    settings = {"ROOT_URLCONF": (path("", lambda _: HttpResponse(EmailMessage("s").send())),)}
    report = run_on_site(
        "def test_it(self):\n"
        "    self.assertEqual(self.client.get('/').text, '0')\n"
        "    self.assertEqual(self.client.outbox, [])\n",
        settings,
    )
    assert_passed(report)


def test_mail__of_visitors_is_sent(run_on_site: RunOnSite) -> None:
    """Mail of a visitor is sent while a client intercepts its own."""

    def visit() -> None:
        assert meetings["inside"].wait(60)
        message("of a visitor").send()
        mail.get_connection().send_messages([message("of another")])
        meetings["outside"].set()

    visitor = threading.Thread(target=visit)
    visitor.start()
    report = run_on_site("""\
def test_it(self):
    self.client.get("/meet/")
    self.assertEqual([m.subject for m in self.client.outbox], ["met"])
""")
    visitor.join()
    assert_passed(report)
    assert [m.subject for m in mail.outbox] == ["of a visitor", "of another"]


def test_mail__of_the_test_is_sent(run_on_site: RunOnSite) -> None:
    """Mail that the test itself sends is not intercepted."""
    report = run_on_site("""\
def test_it(self):
    from django.core.mail import EmailMessage
    self.client.get("/describe/")
    EmailMessage("of the test", "", "a@shop.example", ["b@example.com"]).send()
    self.assertEqual(self.client.outbox, [])
""")
    assert_passed(report)
    assert [m.subject for m in mail.outbox] == ["of the test"]


def test_mail__after_the_test_is_sent(run_on_site: RunOnSite) -> None:
    """Mail is sent if code uses a copy of the request's context after the test."""
    started: list[contextvars.Context] = []

    def start(_: HttpRequest) -> HttpResponse:
        started.append(contextvars.copy_context())
        started[0].run(message("of the test").send)
        return HttpResponse()

    report = run_on_site(
        "def test_it(self):\n"
        "    self.client.get('/')\n"
        "    self.assertEqual([m.subject for m in self.client.outbox], ['of the test'])\n",
        {"ROOT_URLCONF": (path("", start),)},
    )
    assert_passed(report)
    started[0].run(message("of a visitor").send)
    started[0].run(lambda: mail.get_connection().send_messages([message("of another")]))
    assert [m.subject for m in mail.outbox] == ["of a visitor", "of another"]


def test_mail__of_admin_email_handler(run_on_site: RunOnSite) -> None:
    """Error mail of AdminEmailHandler is intercepted."""
    import logging  # noqa: PLC0415 - used only here

    from django.utils.log import AdminEmailHandler  # noqa: PLC0415

    handler = AdminEmailHandler()
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        report = run_on_site(
            "def test_it(self):\n"
            "    self.client.raise_request_exception = False\n"
            "    self.client.get('/fail/')\n"
            "    (message,) = self.client.outbox\n"
            "    self.assertIn('Internal Server Error: /fail/', message.subject)\n",
            {"ADMINS": [("Admin", "admin@shop.example")]},
        )
    finally:
        logger.removeHandler(handler)
    assert_passed(report)
    assert mail.outbox == []


# Streaming and async views


def test_stream(run_on_site: RunOnSite) -> None:
    """A stream is produced lazily, and its mail is intercepted."""
    report = run_on_site("""\
def test_it(self):
    response = self.client.get("/stream/")
    chunks = iter(response)
    self.assertEqual(next(chunks), b"0,")
    self.assertEqual(len(self.client.outbox), 1)
    self.assertEqual(b"".join(chunks), b"1,2,")
    self.assertEqual(len(self.client.outbox), 3)
""")
    assert_passed(report)
    assert events == ["closed"]
    assert mail.outbox == []


def test_stream__async(run_on_site: RunOnSite) -> None:
    report = run_on_site("""\
async def test_it(self):
    response = await self.async_client.get("/stream-async/")
    chunks = [chunk async for chunk in response.streaming_content]
    self.assertEqual(chunks, [b"0,", b"1,", b"2,"])
    self.assertEqual(len(self.async_client.outbox), 3)
""")
    assert_passed(report)
    assert mail.outbox == []


@pytest.mark.parametrize("workers", [0, 2], ids=["inline", "threads"])
def test_async_view(run_on_site: RunOnSite, workers: int) -> None:
    """Sync and async tests can request an async view, whose changes are rolled back."""
    before = dump()
    report = run_on_site(
        """\
def test_sync(self):
    self.assertEqual(self.client.get("/order-async/").text, "1 accounts")
    self.assertEqual(len(self.client.outbox), 1)

async def test_async(self):
    response = await self.async_client.get("/order-async/")
    self.assertEqual(response.text, "1 accounts")

def test_redirect(self):
    response = self.client.get("/redirect/")
    self.assertRedirects(response, "/describe/?a=1")
    self.assertContains(self.client.get("/redirect/", follow=True), "a=1", status_code=200)
""",
        workers=workers,
    )
    assert_passed(report)
    assert mail.outbox == []
    assert dump() == before


# Use in tests


def test_smoketest_endpoint__is_rejected(run_on_site: RunOnSite) -> None:
    """A smoke test cannot request the smoke test endpoint, because it would wait for itself."""
    report = run_on_site("def test_it(self):\n    self.client.get('/smoketest/')\n")
    assert outcomes(report) == {"test_it": "errored"}
    assert "may not run the smoke tests" in report.results[0].message


def test_client__is_new_for_each_test(run_on_site: RunOnSite) -> None:
    """Cookies and mail are not shared between tests, and a test can replace its client."""
    report = run_on_site("""\
def test_a(self):
    self.client.post("/order/", {"name": "x"})
    self.assertIs(self.client, self.client)
    self.assertTrue(self.client.cookies)

def test_b(self):
    self.assertFalse(self.client.cookies)
    self.assertEqual(self.client.outbox, [])

def test_c(self):
    self.client = "my own"
    self.assertEqual(self.client, "my own")
""")
    assert_passed(report)


def test_csrf(run_on_site: RunOnSite) -> None:
    """CSRF checks are disabled by default and can be enabled."""
    report = run_on_site("""\
def test_it(self):
    from smoketest.client import SmokeClient
    checking = SmokeClient(enforce_csrf_checks=True)
    self.addCleanup(checking.close)
    self.assertEqual(checking.post("/order/", {"name": "x"}).status_code, 403)
    self.assertEqual(self.client.post("/order/", {"name": "x"}).status_code, 201)
""")
    assert_passed(report)


class PlainTest(SmokeTest):
    """A smoke test for other unittest runners."""

    __test__ = False  # not for pytest

    def test_it(self) -> None:
        self.assertEqual(self.client.post("/order/", {"name": "kept"}).status_code, 201)
        self.client.post("/login/", {"name": "clerk", "word": "secret"})
        self.assertEqual(len(self.client.outbox), 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("run_on_site")
def test_unittest__without_isolation(engine: str) -> None:
    """Under another runner, changes to databases are kept; sessions and mail are removed."""
    with override_settings(SESSION_ENGINE=engine):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(PlainTest).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
    assert Account.objects.filter(name="kept").exists()
    assert events == ["committed"]
    assert not _models()[-1].objects.exists()
    assert mail.outbox == []


def test_handler__follows_settings() -> None:
    """override_settings() takes effect for an existing client."""
    with override_settings(**SETTINGS | {"MIDDLEWARE": ["tests.test_client.async_middleware"]}):
        client = smoketest.client.SmokeClient()
        assert client.get("/german/")["X-Async"] == "yes"
    with override_settings(**SETTINGS | {"MIDDLEWARE": []}):
        assert "X-Async" not in client.get("/german/")


def thumbnails(_: HttpRequest) -> HttpResponse:
    """Save renditions and their rows, as an image library does on the first visit of a page."""
    for width in range(4):
        name = default_storage.save(f"tea.{width}.txt", ContentFile(b"thumbnail"))
        Account.objects.create(name=name)
    with default_storage.open("cover.txt", "wb") as file:
        file.write(b"cover")
    with default_storage.open("cover.txt") as file:
        return HttpResponse(file.read())


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the default storage; no saved file was reported yet."""
    monkeypatch.setattr(smoketest.client, "_reported", set())
    with override_settings(MEDIA_ROOT=tmp_path / "media"):
        yield tmp_path / "media"


def test_saved_files(run_on_site: RunOnSite, media: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Saved files are reported once for each test, and remain."""
    report = run_on_site(
        "def test_page(self):\n"
        "    self.client.get('/')\n"
        "    self.client.get('/')\n"
        "    self.assertEqual(len(self.client.saved_files), 10)\n"
        "    self.assertEqual(self.client.saved_files[0].name, 'tea.0.txt')\n"
        "    self.client.close()\n"  # as at the end of an earlier run
        "    self.client.get('/')\n",
        {"ROOT_URLCONF": (path("", thumbnails),)},
    )
    assert_passed(report)
    (warning,) = (record for record in caplog.records if record.name == "smoketest")
    assert warning.levelname == "WARNING"
    text = warning.getMessage()
    assert text.startswith(f"{report.results[0].id} saved 10 file(s), which remain although")
    assert "'tea.0.txt' (django.core.files.storage.filesystem.FileSystemStorage), " in text
    assert text.count(".txt'") == 3
    assert "Request the page at the public address of the site" in text
    assert len(list(media.iterdir())) == 13  # four of each request, and the cover
    assert not Account.objects.exists()


def test_saved_files__of_visitors(
    run_on_site: RunOnSite, media: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of a visitor, and of the test itself, are not recorded."""

    def visit() -> None:
        assert meetings["inside"].wait(60)
        default_storage.save("of a visitor.txt", ContentFile(b"photo"))
        meetings["outside"].set()

    meetings.update(inside=threading.Event(), outside=threading.Event())
    visitor = threading.Thread(target=visit)
    visitor.start()
    report = run_on_site(
        "def test_it(self):\n"
        "    from django.core.files.base import ContentFile\n"
        "    from django.core.files.storage import default_storage\n"
        "    self.client.get('/meet/')\n"
        "    default_storage.save('of the test.txt', ContentFile(b'1'))\n"
        "    self.assertEqual(self.client.saved_files, [])\n"
    )
    visitor.join()
    assert_passed(report)
    assert len(list(media.iterdir())) == 2
    assert not [record for record in caplog.records if record.name == "smoketest"]
