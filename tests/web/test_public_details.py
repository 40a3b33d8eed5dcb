"""The details of results that clients without full access see (``SMOKETEST_PUBLIC_DETAILS``)."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from smoketest.store import FILE_NAME
from smoketest.web.access import HIDDEN
from tests.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

TOKEN = "current-token-0123456789"
FULL = {"Authorization": f"Bearer {TOKEN}"}
PRIVATE = "alice@example.com"

#: Each way in which a test can report data of the site, which is always ``PRIVATE``. The names of
#: the tests end with the public message, with ``_`` for spaces.
SMOKE = """
import logging
from unittest import mock
from django.http import HttpResponse

class Customer:
    def __repr__(self):
        return "alice@example.com"

PRIVATE = repr(Customer())

class ShortTest(SmokeTest):
    def test_equal_with__the_author(self):
        self.assertEqual(Customer(), 1, "the author")

    def test_fail_with__the_author(self):
        self.fail("the author")

    def test_bare_with__the_author(self):
        assert not PRIVATE, "the author"

    def test_raises_with__the_author(self):
        with self.assertRaises(ValueError, msg="the author"):
            str(PRIVATE)

    def test_regex_with__the_author(self):
        with self.assertRaisesRegex(ValueError, "private", msg="the author"):
            raise ValueError(PRIVATE)

    def test_list_with__the_author(self):
        self.assertEqual([PRIVATE], [], "the author")

    def test_contains_with__the_author(self):
        self.assertContains(HttpResponse(PRIVATE), "x", msg_prefix="the author")

    def test_json_with__the_author(self):
        self.assertJSONEqual('"alice@example.com"', 1, "the author")

    def test_contains(self):
        self.assertContains(HttpResponse(PRIVATE), "x")

    def test_in_html(self):
        self.assertInHTML("<p>x</p>", PRIVATE)

    def test_json(self):
        self.assertJSONEqual('"alice@example.com"', 1)

    def test_equal(self):
        self.assertEqual(Customer(), 1)

    def test_true(self):
        self.assertFalse(PRIVATE)

    def test_in(self):
        self.assertIn(1, {PRIVATE: 1})

    def test_dict(self):
        self.assertEqual({"email": PRIVATE}, {})

    def test_text(self):
        self.assertMultiLineEqual(PRIVATE, "")

    def test_set(self):
        self.assertSetEqual(PRIVATE, {1})

    def test_regex(self):
        with self.assertRaisesRegex(ValueError, "private"):
            raise ValueError(PRIVATE)

    def test_logs(self):
        with self.assertNoLogs("app"):
            logging.getLogger("app").error(PRIVATE)

    def test_bare(self):
        assert not PRIVATE

    def test_mock(self):
        called = mock.Mock()
        called(PRIVATE)
        called.assert_called_once_with(1)

class LongTest(ShortTest):
    longMessage = True

class ErrorTest(SmokeTest):
    def test_error_with__ValueError(self):
        raise ValueError(PRIVATE)

    def test_key_error_with__KeyError(self):
        {}[PRIVATE]

    def test_group_with__ExceptionGroup(self):
        raise ExceptionGroup(PRIVATE, [ValueError(PRIVATE)])

    def test_chained_with__RuntimeError(self):
        try:
            raise ValueError(PRIVATE)
        except ValueError as error:
            raise RuntimeError(PRIVATE) from error

    def test_subtests_with__KeyError_(self):
        for customer in (Customer(), 2):
            with self.subTest(PRIVATE, customer=customer):
                raise KeyError(PRIVATE)

    def test_failing_subtests_with__the_author_(self):
        for customer in (Customer(), 2):
            with self.subTest(PRIVATE, customer=customer):
                self.assertEqual(customer, 1, "the author")

class FixtureTest(SmokeTest):
    @classmethod
    def setUpClass(cls):
        raise LookupError(PRIVATE)

    def test_fixture_with__setUpClass__LookupError(self):
        pass

class TearDownTest(SmokeTest):
    @classmethod
    def tearDownClass(cls):
        raise LookupError(PRIVATE)

    def test_passes(self):
        pass

class SkippedTest(SmokeTest):
    def test_skipped(self):
        self.skipTest(PRIVATE)

class WarningTest(SmokeTest):
    severity = "warning"

    def test_warning(self):
        self.assertEqual(PRIVATE, 1)
"""
NOT_IMPORTABLE = "raise OSError('alice@example.com')"
BROWSER = {"Sec-Fetch-Dest": "document"}


def outputs(client: Client, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Return the responses of all formats and pages, each for a run and for the stored report."""
    texts = {}
    for kind in ("text", "json", "html", "ndjson"):
        for age in ("0", "60"):
            response = client.get(f"/smoketest/?format={kind}&max_age={age}", headers=headers)
            texts[f"{kind} {age}"] = response.getvalue().decode()
    texts["page"] = client.get(
        "/smoketest/?format=html", headers={**BROWSER, **(headers or {})}
    ).text
    for test_id in re.findall(r'data-test="([^"]+)"', texts["page"]):
        texts[test_id] = client.get(f"/smoketest/test/{test_id}/", headers=headers).text
    texts["error"] = client.get("/smoketest/?test=no.such", headers=headers).text
    texts["metrics"] = client.get("/smoketest/metrics", headers=headers).getvalue().decode()
    return texts


def expose(site: Site, **settings: Any) -> Client:
    return site(SMOKE, **{"SMOKETEST_PUBLIC_DETAILS": None, "SMOKETEST_MAX_AGE": 60.0, **settings})


def results(client: Client, headers: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    report = client.get("/smoketest/?format=json", headers=headers).json()
    return {result["id"]: result for result in report["results"]}


def test_limited__no_output_has_details(site: Site) -> None:
    """No format, page, stream, label or error contains data of the site; all show the outcomes."""
    texts = outputs(expose(site))
    assert [name for name, text in texts.items() if PRIVATE in text] == []
    assert [name for name, text in texts.items() if "Traceback (most" in text] == []
    assert len(texts) > 50
    for name in ("text 0", "json 0", "ndjson 60", "html 60", "page"):
        assert "test_equal" in texts[name]
        assert HIDDEN in texts[name].replace("&#x27;", "'")


def test_limited__public_messages(site: Site) -> None:
    """Failed tests show the author's message, errored ones the class, and how to see more."""
    for test_id, result in results(expose(site)).items():
        public = test_id.partition("_with__")[2]
        message = result["message"].removesuffix(f" ({HIDDEN})").removesuffix(HIDDEN)
        words = re.sub(r" \(and \d+ more\)", "_", message).replace(": ", "__").replace(" ", "_")
        match result["outcome"]:
            case "failed":
                assert words == public, test_id
                assert HIDDEN in result["message"]
                assert result["exception"] == ""
            case "errored":
                assert words == (public or "LookupError"), test_id
                assert HIDDEN in result["message"]
                assert result["exception"] in words
            case _:
                assert message == ""
        assert "traceback" not in result


def test_limited__text_lines_of_release_1(site: Site) -> None:
    """The lines of failed and errored tests begin as in 1.x."""
    lines = expose(site).get("/smoketest/").text.splitlines()
    assert (
        f"app0.smoke.ErrorTest.test_error_with__ValueError errored: ValueError ({HIDDEN})" in lines
    )
    assert f"app0.smoke.ShortTest.test_equal failed: {HIDDEN}" in lines
    assert f"app0.smoke.WarningTest.test_warning failed: [warning] {HIDDEN}" in lines


def test_limited__collection_error(site: Site) -> None:
    """A module that cannot be imported shows the class of the exception."""
    client = site(NOT_IMPORTABLE, SMOKETEST_PUBLIC_DETAILS=False)
    (result,) = results(client).values()
    assert result["message"] == f"cannot be imported: OSError ({HIDDEN})"
    assert PRIVATE not in "".join(outputs(client).values())


def test_limited__timeout(site: Site) -> None:
    """The messages of this package, such as that of a timeout, are public; the stack is not."""
    smoke = """
    import time
    class T(SmokeTest):
        timeout = 0.01
        def test_slow(self):
            time.sleep(0.1)
    """
    (result,) = results(site(smoke, SMOKETEST_PUBLIC_DETAILS=False)).values()
    assert result["message"] == f"timed out after 0.01 s ({HIDDEN})"


def test_limited__stored_by_an_older_release(site: Site, tmp_path: Path) -> None:
    """A stored result without a public message shows only the class of an error."""
    client = expose(site)
    client.get("/smoketest/")
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as database, database:
        for table, column in (("runs", "report"), ("tests", "result"), ("tests", "last_failure")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, 'public_message', 'traceback')"  # noqa: S608 - a constant
            )
    shown = results(client)
    assert shown["app0.smoke.ShortTest.test_fail_with__the_author"]["message"] == HIDDEN
    errored = shown["app0.smoke.ErrorTest.test_error_with__ValueError"]
    assert errored["message"] == f"ValueError ({HIDDEN})"


@pytest.mark.parametrize(
    ("settings", "headers", "has_tracebacks"),
    [
        ({"SMOKETEST_PUBLIC_DETAILS": True}, {}, False),
        ({"DEBUG": True}, {}, True),
        ({"SMOKETEST_TOKENS": [TOKEN]}, FULL, True),
    ],
)
def test_details__shown(
    site: Site, settings: dict[str, Any], headers: dict[str, str], has_tracebacks: bool
) -> None:
    """The setting, DEBUG and full access show messages; the last two also tracebacks."""
    texts = outputs(expose(site, **settings), headers)
    for name in ("text 0", "json 60", "ndjson 0", "html 60", "page"):
        assert PRIVATE in texts[name]
        assert HIDDEN not in texts[name]
    assert ('"traceback"' in texts["json 0"]) is has_tracebacks
    assert ("Traceback (most" in texts["page"]) is has_tracebacks


def test_details__hidden_with_debug(site: Site) -> None:
    """An explicit setting takes precedence over DEBUG."""
    texts = outputs(expose(site, DEBUG=True, SMOKETEST_PUBLIC_DETAILS=False))
    assert [name for name, text in texts.items() if PRIVATE in text] == []
    assert [name for name, text in texts.items() if "Traceback (most" in text] == []


def test_tokens__denied(site: Site) -> None:
    """With tokens, clients without one see nothing, whatever the setting is."""
    client = expose(site, SMOKETEST_TOKENS=[TOKEN], SMOKETEST_PUBLIC_DETAILS=True)
    assert client.get("/smoketest/").status_code == 401


def test_command__shows_details(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The command shows everything, regardless of the setting."""
    expose(site)
    with pytest.raises(SystemExit):
        call_command("smoketest")
    assert PRIVATE in capsys.readouterr().out
