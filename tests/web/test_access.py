"""Who is let in to the endpoints, and what the others are told."""

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


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class User:
    """What Django's authentication puts into a request."""

    def __init__(self, *, is_staff: bool, is_active: bool = True) -> None:
        self.is_staff = is_staff
        self.is_active = is_active


class BrokenUser:
    """One whose session cannot be read."""

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
def test_token__lets_in(authorization: str) -> None:
    """Any of the tokens, as Bearer or as the password of Basic, in any case of the scheme."""
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
        "Basic " + base64.b64encode(TOKEN.encode()).decode(),  # no user, no colon
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic not base64!",
        "Basic \xe9",
        "Basic",
    ],
)
def test_token__anything_else_does_not(authorization: str | None) -> None:
    """Whatever a header holds, it is a token or it is none."""
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
def test_session__of_the_staff_lets_in(user: Any, expected: Role) -> None:
    """A session that cannot be read is no session."""
    assert role(None, user=user) is expected


def test_session__is_not_asked_where_there_is_a_token() -> None:
    """With the database down the token is enough, and nothing waits for the database."""

    class Asked:
        def __bool__(self) -> bool:
            raise AssertionError

    assert role(f"Bearer {TOKEN}", user=Asked()) is Role.FULL


def assert_challenged(response: HttpResponse) -> None:
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == CHALLENGE
    assert response["Cache-Control"] == "no-store, private"
    assert "SMOKETEST_TOKENS" in response.text
    assert "app0" not in response.text


@pytest.mark.parametrize("path", [*PATHS, "/smoketest/?test=app0", "/smoketest/?nonsense=1"])
@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put"])
def test_outsider__is_told_nothing(site: Site, path: str, method: str) -> None:
    """On each path and by each method the same, and nothing runs."""
    client = site(FAILS, SMOKETEST_TOKENS=TOKENS)
    response = getattr(client, method)(path)
    if method == "head":
        assert response.status_code == 401
    else:
        assert_challenged(response)
    assert insider().get("/smoketest/?only_if_cached=1").status_code == 504  # nothing is stored


def insider(token: str = TOKEN) -> Client:
    return Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)


def test_insider__sees_everything(site: Site) -> None:
    """Results, tracebacks and metrics, by either token."""
    site(FAILS, SMOKETEST_TOKENS=TOKENS)
    response = insider().get("/smoketest/?format=json")
    assert response.status_code == 500
    assert "self.assertEqual(1, 2)" in response.json()["results"][0]["traceback"]
    assert insider(NEXT_TOKEN).get("/smoketest/metrics").status_code == 200


def test_rotation__token_that_was_taken_away(site: Site) -> None:
    """The next request is refused."""
    site(PASSES, SMOKETEST_TOKENS=TOKENS)
    assert insider().get("/smoketest/").status_code == 200
    with override_settings(SMOKETEST_TOKENS=[NEXT_TOKEN]):
        assert_challenged(insider().get("/smoketest/"))


def test_tokens__wrong_setting_shuts_the_door(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A token that may not be one opens nothing; the answer and the log say what to do."""
    client = site(PASSES, SMOKETEST_TOKENS="short")
    response = client.get("/smoketest/", headers={"Accept": "text/html"})
    assert response.status_code == 503
    assert "Run manage.py check on the server" in response.text
    assert "SMOKETEST_TOKENS is" in caplog.text
    assert "short" not in response.text + caplog.text
    response = insider("short").get("/smoketest/metrics?format=json")
    assert response.status_code == 503
    assert response.json()["status"] == "FAIL"


@pytest.mark.parametrize(("smoke", "status"), [(PASSES, 200), (FAILS, 500)])
def test_public_status__is_bare(site: Site, smoke: str, status: int) -> None:
    """Outsiders see the word and the age of the latest result, and make nothing run."""
    client = site(smoke, SMOKETEST_TOKENS=TOKENS, SMOKETEST_PUBLIC_STATUS=True)
    before = client.get("/smoketest/")
    assert before.status_code == 503
    assert before.text.startswith("There is no recent result.")
    insider().get("/smoketest/")
    response = client.get("/smoketest/", headers={"Cache-Control": "no-cache"})
    assert response.status_code == status
    assert response.text == ("PASS\n" if status == 200 else "FAIL\n")
    assert response["Age"].isdigit()
    for path in ("/smoketest/?format=json", "/smoketest/?max_age=0", "/smoketest/metrics"):
        assert_challenged(client.get(path))


def test_public_status__is_of_a_recent_run(site: Site) -> None:
    """A result of long ago is none: the status of a site that runs no more is not PASS."""
    client = site(PASSES, SMOKETEST_TOKENS=TOKENS, SMOKETEST_PUBLIC_STATUS=True)
    insider().get("/smoketest/")
    with override_settings(SMOKETEST_MAX_AGE=0, SMOKETEST_INTERVAL=None):
        assert client.get("/smoketest/").status_code == 503


def test_visitor__sees_no_traceback(site: Site) -> None:
    """A site without tokens is open; tracebacks are for the staff."""
    client = site(FAILS)
    assert "traceback" not in client.get("/smoketest/?format=json").json()["results"][0]
    request = RequestFactory().get("/smoketest/?format=json")
    request.user = User(is_staff=True)  # type: ignore[assignment]
    response = IndexView.as_view()(request)
    assert b"self.assertEqual(1, 2)" in response.content  # type: ignore[attr-defined]
    assert MetricsView.as_view()(request).status_code == 200


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
        assert f"{lock} is not a regular file" in client.get(f"/smoketest/{query}", headers=headers).text


def test_cross_site__starts_no_run(site: Site) -> None:
    """A page of another site cannot make browsers of its visitors run the tests."""
    client = site(PASSES)
    headers = {"Sec-Fetch-Site": "cross-site", "Cache-Control": "no-cache"}
    assert client.get("/smoketest/", headers=headers).status_code == 504
    first = client.get("/smoketest/?format=json").json()["started_at"]
    for query in ("?format=json", "?format=json&max_age=0"):
        response = client.get(f"/smoketest/{query}", headers=headers)
        assert response.status_code == 200
        assert response.json()["started_at"] == first
    headers["Sec-Fetch-Site"] = "same-origin"
    response = client.get("/smoketest/?format=json", headers=headers)
    assert response.json()["started_at"] > first
