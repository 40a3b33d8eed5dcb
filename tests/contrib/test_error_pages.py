"""Tests of the built-in checks of the error pages."""

# ruff: noqa: ARG001, ARG005 - views and middleware take what Django passes

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path, re_path

from tests.contrib.conftest import TEMPLATES, Essentials
from tests.contrib.essentials_site import Run

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

PAGES = {
    "400.html": "test_bad_request",
    "403.html": "test_permission_denied",
    "403_csrf.html": "test_csrf_failure",
    "404.html": "test_page_not_found",
    "500.html": "test_server_error",
}
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.locale.LocaleMiddleware",
]
GetResponse = Callable[[HttpRequest], HttpResponse]


def brand(get_response: GetResponse) -> GetResponse:
    """Middleware that sets an attribute."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.brand = "Tea & Co"  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def sign_in(get_response: GetResponse) -> GetResponse:
    """Middleware that answers before the middleware behind it."""
    return lambda request: redirect("/login/")


def no_tenant(get_response: GetResponse) -> GetResponse:
    """Middleware for which the host is not that of a tenant."""

    def middleware(request: HttpRequest) -> HttpResponse:
        raise Http404

    return middleware


def failing(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> HttpResponse:
        raise RuntimeError("no tenant")

    return middleware


def basket(request: Any) -> dict[str, Any]:
    """A context processor that uses attributes set by middleware."""
    assert request.user.is_anonymous
    return {"basket": request.session.get("basket"), "brand": request.brand.upper()}


def answer(status: int) -> Callable[..., HttpResponse]:
    """Return a handler for errors that needs what middleware has set."""

    def handler(request: Any, **_: object) -> HttpResponse:
        return HttpResponse(f"Sorry, says {request.brand}", status=status)

    return handler


def catch_all(request: HttpRequest, path: str) -> HttpResponse:
    """A view such as that of a content management system."""
    raise Http404


def frontend(request: HttpRequest, path: str) -> HttpResponse:
    """A view that returns the page of a JavaScript application for each path."""
    return HttpResponse("<div id=app>")


def urlconf(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> str:
    """Return the name of a URLconf with these attributes."""
    module = ModuleType("urls_of_error_pages")
    vars(module).update({"urlpatterns": [], **attributes})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def check(essentials: Essentials, folder: Path, **settings: Any) -> Run:
    defaults = {
        "MIDDLEWARE": [*MIDDLEWARE, f"{__name__}.brand"],
        "TEMPLATES": [{**TEMPLATES, "DIRS": [folder]}],
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    }
    return essentials("pages.ErrorPagesTest", **defaults | settings)


def not_passed(run: Run) -> dict[str, str]:
    """Return the outcomes of the tests that did not pass, by method name."""
    return {
        name.rpartition(".")[2]: outcome
        for name, outcome in run.outcomes.items()
        if outcome != "passed"
    }


def message_of(run: Run, test: str) -> str:
    return run.messages[f"pages.ErrorPagesTest.{test}"]


def test_default_pages(essentials: Essentials, tmp_path: Path) -> None:
    assert not_passed(check(essentials, tmp_path)) == {}


def test_without_templates_and_middleware(essentials: Essentials, tmp_path: Path) -> None:
    """A site that is only an API."""
    run = check(essentials, tmp_path, TEMPLATES=[], MIDDLEWARE=[])
    assert not_passed(run) == {}
    assert len(run.outcomes) == len(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_rendering_error(essentials: Essentials, tmp_path: Path, page: str) -> None:
    """Only the test of the broken page fails."""
    (tmp_path / page).write_text("{% url 'no-such-page' %}")
    run = check(essentials, tmp_path)
    assert not_passed(run) == {PAGES[page]: "failed"}
    message = message_of(run, PAGES[page])
    assert "NoReverseMatch: " in message
    assert message.endswith(f"Fix the template {page}.")


def test_templates_use_what_middleware_sets(essentials: Essentials, tmp_path: Path) -> None:
    for page in PAGES:
        text = "{{ request.build_absolute_uri }}{% csrf_token %}{{ request.brand }}"
        (tmp_path / page).write_text(f"{text} Sorry")
    options = {"context_processors": [f"{__name__}.basket"]}
    templates = [{**TEMPLATES, "DIRS": [tmp_path], "OPTIONS": options}]
    assert not_passed(check(essentials, tmp_path, TEMPLATES=templates)) == {}


@pytest.mark.parametrize("page", PAGES)
def test_empty_page(essentials: Essentials, tmp_path: Path, page: str) -> None:
    (tmp_path / page).write_text("{# nothing #}\n")
    run = check(essentials, tmp_path)
    assert not_passed(run) == {PAGES[page]: "failed"}
    assert message_of(run, PAGES[page]).startswith(f"{page} is empty. ")


def test_own_handlers(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers of the site are called for the request that middleware has processed."""
    handlers = {f"handler{status}": answer(status) for status in (400, 403, 404, 500)}
    run = check(essentials, tmp_path, ROOT_URLCONF=urlconf(monkeypatch, **handlers))
    assert not_passed(run) == {}
    handlers["handler403"] = answer(404)  # hides that the page exists
    run = check(essentials, tmp_path, ROOT_URLCONF=urlconf(monkeypatch, **handlers))
    assert not_passed(run) == {}


HANDLERS = {
    400: "bad_request",
    403: "permission_denied",
    404: "page_not_found",
    500: "server_error",
}


@pytest.mark.parametrize("status", HANDLERS)
def test_own_handler__wrong_status(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    urls = urlconf(monkeypatch, **{f"handler{status}": answer(200)})
    run = check(essentials, tmp_path, ROOT_URLCONF=urls)
    test = f"test_{HANDLERS[status]}"
    assert not_passed(run) == {test: "failed"}
    assert message_of(run, test).startswith(f"handler{status} ({__name__}.answer.<locals>.handler)")
    assert f"answers 200 instead of {status}" in message_of(run, test)


@pytest.mark.parametrize("status", HANDLERS)
def test_own_handler__error(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def broken(request: HttpRequest, **_: object) -> HttpResponse:
        return render(request, "no/such/template.html")

    urls = urlconf(monkeypatch, **{f"handler{status}": broken})
    run = check(essentials, tmp_path, ROOT_URLCONF=urls)
    test = f"test_{HANDLERS[status]}"
    assert not_passed(run) == {test: "failed"}
    assert "TemplateDoesNotExist: no/such/template.html" in message_of(run, test)
    assert "Fix the view" in message_of(run, test)


def test_own_handler__redirect(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = urlconf(monkeypatch, handler404=lambda request, exception: redirect("/"))
    run = check(essentials, tmp_path, ROOT_URLCONF=urls)
    assert not_passed(run) == {"test_page_not_found": "skipped"}
    assert message_of(run, "test_page_not_found").endswith("redirects to /.")


def test_csrf_failure_view(essentials: Essentials, tmp_path: Path) -> None:
    run = check(essentials, tmp_path, CSRF_FAILURE_VIEW=f"{__name__}.csrf_as_json")
    assert not_passed(run) == {}
    run = check(essentials, tmp_path, CSRF_FAILURE_VIEW=f"{__name__}.csrf_without_status")
    assert not_passed(run) == {"test_csrf_failure": "failed"}
    assert message_of(run, "test_csrf_failure").startswith("CSRF_FAILURE_VIEW (")


def csrf_as_json(request: HttpRequest, reason: str = "") -> HttpResponse:
    return JsonResponse({"reason": reason}, status=403)


def csrf_without_status(request: HttpRequest, reason: str = "") -> HttpResponse:
    return JsonResponse({"reason": reason})


def test_view_for_each_path(
    essentials: Essentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content management system answers 404 by itself, a JavaScript application never does."""
    urls = urlconf(monkeypatch, urlpatterns=[path("<path:path>", catch_all)])
    assert not_passed(check(essentials, tmp_path, ROOT_URLCONF=urls)) == {}
    urls = urlconf(monkeypatch, urlpatterns=[re_path("^(?P<path>.*)$", frontend)])
    run = check(essentials, tmp_path, ROOT_URLCONF=urls)
    assert not_passed(run) == {"test_page_not_found": "skipped"}
    assert "matches each path, and its view answers 200" in message_of(run, "test_page_not_found")


@pytest.mark.parametrize(
    ("middleware", "handlers", "status"),
    [
        ("sign_in", {}, 302),
        ("sign_in", {"handler404": answer(404)}, 302),
        ("no_tenant", {}, 404),
    ],
)
def test_middleware_answers(
    essentials: Essentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    middleware: str,
    handlers: dict[str, Any],
    status: int,
) -> None:
    """Pages are not rendered for a request that middleware has not completed."""
    (tmp_path / "403.html").write_text("{% url request.brand %}")
    run = check(
        essentials,
        tmp_path,
        MIDDLEWARE=[f"{__name__}.{middleware}", *MIDDLEWARE, f"{__name__}.brand"],
        ROOT_URLCONF=urlconf(monkeypatch, **handlers),
    )
    assert set(run.outcomes.values()) == {"skipped"}
    assert f"Middleware of the site answers {status} " in message_of(run, "test_server_error")


def test_middleware_fails(essentials: Essentials, tmp_path: Path) -> None:
    run = check(essentials, tmp_path, MIDDLEWARE=[f"{__name__}.failing"])
    assert run.outcomes.pop("pages.ErrorPagesTest.test_page_not_found") == "failed"
    assert set(run.outcomes.values()) == {"skipped"}
    message = message_of(run, "test_page_not_found")
    assert message.endswith("Fix the middleware.")
    assert message.startswith("A path that does not exist fails with status 500: RuntimeError: no")


def test_redirect_to_canonical_host(essentials: Essentials, tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text("{{ request.get_host }}")
    hosts = {"ALLOWED_HOSTS": [".example.com"], "PREPEND_WWW": True}
    assert not_passed(check(essentials, tmp_path, **hosts)) == {}


def test_debug(essentials: Essentials, tmp_path: Path) -> None:
    """With DEBUG, the page of the site is rendered, not that for developers."""
    (tmp_path / "404.html").write_text("{% url 'no-such-page' %}")
    run = check(essentials, tmp_path, DEBUG=True)
    assert not_passed(run) == {"test_page_not_found": "failed"}
    assert message_of(run, "test_page_not_found").startswith("404.html does not render: ")


def test_no_error_is_logged(
    essentials: Essentials, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Administrators get no mail about the pages."""
    check(essentials, tmp_path)
    messages = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(messages) <= 1, messages
    assert all(message.startswith("Not Found: /smoketest-") for message in messages)
