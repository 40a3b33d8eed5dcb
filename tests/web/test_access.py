"""Authentication and authorization of requests to the endpoints."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from smoketest.views import IndexView, MetricsView
from smoketest.web.access import CHALLENGE, Role, role_of
from tests.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

TOKEN, NEXT_TOKEN = "current-token-0123456789", "next-token-abcdefghijkl"
TOKENS = [TOKEN, NEXT_TOKEN]
PATHS = ["/smoketest/", "/smoketest/metrics"]

PASSES = """
class T(SmokeTest):
    def test_read(self):
        Account.objects.count()
"""
FAILS = """
class T(SmokeTest):
    def test_bad(self):
        self.assertEqual(1, 2)
"""


def basic(password: str, user: str = "prometheus") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class User:
    """Minimal user, as set by `AuthenticationMiddleware`."""

    def __init__(self, *, is_staff: bool, is_active: bool = True) -> None:
        self.is_staff = is_staff
        self.is_active = is_active


class BrokenUser:
    """User whose session cannot be loaded."""

    def __bool__(self) -> bool:
        raise OperationalError("the database is down")


def role(authorization: str | None, tokens: list[str] = TOKENS, user: Any = None) -> Role:
    headers = {} if authorization is None else {"Authorization": authorization}
    request = RequestFactory().get("/", headers=headers)
    if user is not None:
        request.user = user
    return role_of(request, tokens)


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN}",
        f"bearer   {NEXT_TOKEN} ",
        basic(TOKEN),
        basic(NEXT_TOKEN, user=""),
        basic(TOKEN).replace("Basic", "BASIC"),
    ],
)
def test_token__valid(authorization: str) -> None:
    """Any configured token grants access, as a Bearer token or a Basic password."""
    assert role(authorization) is Role.FULL


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Token {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xff\udcff",
        basic(""),
        basic(f"{TOKEN}:"),
        "Basic " + base64.b64encode(TOKEN.encode()).decode(),  # no user and no colon
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic not base64!",
        "Basic \xe9",
        "Basic",
    ],
)
def test_token__invalid(authorization: str | None) -> None:
    """Malformed and unknown credentials are ignored."""
    assert role(authorization) is Role.DENIED
    assert role(authorization, tokens=[]) is Role.LIMITED


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (User(is_staff=True), Role.FULL),
        (User(is_staff=True, is_active=False), Role.DENIED),
        (User(is_staff=False), Role.DENIED),
        (User(is_staff=False, is_active=False), Role.DENIED),
        (BrokenUser(), Role.DENIED),
        (object(), Role.DENIED),
    ],
)
def test_session__staff_user(user: Any, expected: Role) -> None:
    """Only an active staff user has full access; a session that cannot be loaded is ignored."""
    assert role(None, user=user) is expected


def test_session__not_loaded_with_valid_token() -> None:
    """A valid token works while the database is down: the session is not loaded."""

    class UnexpectedAccess:
        def __bool__(self) -> bool:
            raise AssertionError

    assert role(f"Bearer {TOKEN}", user=UnexpectedAccess()) is Role.FULL


def assert_challenged(response: HttpResponse) -> None:
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE
    assert response["Cache-Control"] == "no-store, private"
    assert "SMOKETEST_TOKENS" in response.text
    assert "app0" not in response.text


@pytest.mark.parametrize("path", [*PATHS, "/smoketest/?test=app0", "/smoketest/?nonsense=1"])
@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put"])
def test_denied__no_information(site: Site, path: str, method: str) -> None:
    """Every path and method returns 401 without details, and no test runs."""
    client = site(FAILS, SMOKETEST_TOKENS=TOKENS)
    response = getattr(client, method)(path)
    if method == "head":
        assert response.status_code == 401
    else:
        assert_challenged(response)
    response = authorized_client().get("/smoketest/?only_if_cached=1")
    assert response.status_code == 504, "no result is stored"


def authorized_client(token: str = TOKEN) -> Client:
    return Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)


def test_full_role__all_data(site: Site) -> None:
    """Every configured token gives access to results, tracebacks and metrics."""
    site(FAILS, SMOKETEST_TOKENS=TOKENS)
    response = authorized_client().get("/smoketest/?format=json")
    assert response.status_code == 500
    assert "self.assertEqual(1, 2)" in response.json()["results"][0]["traceback"]
    assert authorized_client(NEXT_TOKEN).get("/smoketest/metrics").status_code == 200


def test_token_rotation__removed_token(site: Site) -> None:
    """A removed token is rejected by the next request."""
    site(PASSES, SMOKETEST_TOKENS=TOKENS)
    assert authorized_client().get("/smoketest/").status_code == 200
    with override_settings(SMOKETEST_TOKENS=[NEXT_TOKEN]):
        assert_challenged(authorized_client().get("/smoketest/"))


def test_tokens__invalid_setting_denies_access(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid settings deny all access; the response and the log refer to `manage.py check`."""
    client = site(PASSES, SMOKETEST_TOKENS="short")
    response = client.get("/smoketest/", headers={"Accept": "text/html"})
    assert response.status_code == 503
    assert "Run manage.py check on the server" in response.text
    assert "SMOKETEST_TOKENS is" in caplog.text
    assert "short" not in response.text + caplog.text
    response = authorized_client("short").get("/smoketest/metrics?format=json")
    assert response.status_code == 503
    assert response.json()["status"] == "FAIL"


@pytest.mark.parametrize(("smoke", "status"), [(PASSES, 200), (FAILS, 500)])
def test_public_status__content(site: Site, smoke: str, status: int) -> None:
    """A public status has only the status and the age of the latest result, and starts no run."""
    client = site(smoke, SMOKETEST_TOKENS=TOKENS, SMOKETEST_PUBLIC_STATUS=True)
    before = client.get("/smoketest/")
    assert before.status_code == 503
    assert before.text.startswith("There is no recent result.")
    authorized_client().get("/smoketest/")
    response = client.get("/smoketest/", headers={"Cache-Control": "no-cache"})
    assert response.status_code == status
    assert response.text == ("PASS\n" if status == 200 else "FAIL\n")
    assert response["Age"].isdigit()
    for path in ("/smoketest/?format=json", "/smoketest/?max_age=0", "/smoketest/metrics"):
        assert_challenged(client.get(path))


def test_public_status__stale_result(site: Site) -> None:
    """A result older than `SMOKETEST_MAX_AGE` is not served as the public status."""
    client = site(PASSES, SMOKETEST_TOKENS=TOKENS, SMOKETEST_PUBLIC_STATUS=True)
    authorized_client().get("/smoketest/")
    with override_settings(SMOKETEST_MAX_AGE=0, SMOKETEST_INTERVAL=None):
        assert client.get("/smoketest/").status_code == 503


def test_limited_role__no_traceback(site: Site) -> None:
    """Without tokens, everyone sees the results, but only staff users see tracebacks."""
    client = site(FAILS)
    assert "traceback" not in client.get("/smoketest/?format=json").json()["results"][0]
    request = RequestFactory().get("/smoketest/?format=json")
    request.user = User(is_staff=True)  # type: ignore[assignment]
    response = IndexView.as_view()(request)
    assert b"self.assertEqual(1, 2)" in response.content  # type: ignore[attr-defined]
    assert MetricsView.as_view()(request).status_code == 200


REPAIRED = """
runs = []
class T(SmokeTest):
    @options(every=3600)
    def test_dear(self):
        runs.append("once more")
        self.assertGreater(len(runs), 1)
"""


@pytest.mark.parametrize(("is_staff", "status"), [(False, 500), (True, 200)])
def test_every__retries_a_failing_test_only_with_full_access(
    site: Site, *, is_staff: bool, status: int
) -> None:
    """A client without full access cannot repeat a test before its ``every`` has passed."""
    site(REPAIRED, SMOKETEST_MAX_AGE=0, SMOKETEST_INTERVAL=0.001)
    view = IndexView.as_view()
    request = RequestFactory().get("/smoketest/")
    request.user = User(is_staff=is_staff)  # type: ignore[assignment]
    assert view(request).status_code == 500
    assert view(request).status_code == status


@pytest.mark.parametrize("query", ["", "?format=json", "?format=ndjson"])
def test_state_error__shows_paths_only_with_full_access(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    """The layout of the server's files is not for every client. The log has the reason."""
    client = site(PASSES)
    client.get("/smoketest/")
    lock = tmp_path / "state" / "run.lock"
    lock.unlink()
    lock.mkdir()
    response = client.get(f"/smoketest/{query}", headers={"Cache-Control": "no-cache"})
    assert response.status_code == 503
    assert "The state directory of the smoke tests cannot be used" in response.text
    assert str(tmp_path) not in response.text
    assert f"{lock} is not a regular file" in caplog.text
    with override_settings(SMOKETEST_TOKENS=TOKENS):
        headers = {"Cache-Control": "no-cache", "Authorization": f"Bearer {TOKEN}"}
        assert (
            f"{lock} is not a regular file"
            in client.get(f"/smoketest/{query}", headers=headers).text
        )


def test_cross_site__starts_no_run(site: Site) -> None:
    """A page of another site cannot make browsers of its visitors run the tests."""
    client = site(PASSES)
    headers = {"Sec-Fetch-Site": "cross-site", "Cache-Control": "no-cache"}
    response = client.get("/smoketest/", headers=headers)
    assert response.status_code == 504
    assert "Another site sent this request, so no test was run" in response.text
    first = client.get("/smoketest/?format=json").json()["started_at"]
    assert client.get("/smoketest/?format=json&max_age=0", headers=headers).status_code == 504
    for query in ("?format=json", "?format=json&max_age=60"):
        response = client.get(f"/smoketest/{query}", headers=headers)
        assert response.status_code == 200
        assert response.json()["started_at"] == first
    headers["Sec-Fetch-Site"] = "same-origin"
    response = client.get("/smoketest/?format=json", headers=headers)
    assert response.json()["started_at"] > first
