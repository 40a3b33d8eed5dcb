"""Tests of docs/migrating.md: its examples, and its statements about 2.0."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps as registry
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import transaction
from django.test import Client, override_settings
from django.urls import include, path, re_path, reverse
from django.utils import translation

from smoketest.management.commands import smoketest as command
from smoketest.views import IndexView
from tests.conftest import Apps, RunSmoke, Site, outcomes
from tests.ledger.models import Account

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "migrating.md").read_text()
#: The app in the examples of the page.
APP = "shop"


@dataclass
class Example:
    """A smoke module of the page, and the report below it."""

    smoke: str
    #: Other files of the app, by name.
    files: dict[str, str] = field(default_factory=dict)
    status: str = ""
    problems: list[str] = field(default_factory=list)


def examples() -> list[Example]:
    """Return the smoke modules of the page; code blocks of other packages are ignored."""
    found: list[Example] = []
    files: dict[str, str] = {}
    for language, content in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        name = re.match(rf"# {APP}/(\S+)\n", content)
        if language == "text":
            found[-1].status, *found[-1].problems = content.splitlines()
        elif name and name[1] != "smoke.py":
            files[name[1]] = content
        elif "SmokeTest)" in content or name:
            found.append(Example(content, files))
            files = {}
    return found


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return lines as on the page: the status, and one for each problem."""
    lines = [report["status"], *report["failed_tests"], *report["errored_tests"]]
    return [line.replace("app0.", f"{APP}.") for line in lines]


def ask(client: Client, **parameters: str) -> Any:
    response = client.get("/smoketest/", {"format": "json", **parameters})
    return response.json()


# Examples


@pytest.mark.parametrize(
    "example", examples(), ids=["without-subtest", "subtest", "shared", "health-check", "watchman"]
)
def test_example__has_the_shown_report(site: Site, apps: Apps, example: Example) -> None:
    sources = {
        name: re.sub(rf"\b{APP}\b", "app0", source)
        for name, source in {**example.files, "smoke.py": example.smoke}.items()
    }
    smoke = sources.pop("smoke.py")
    for name, source in sources.items():
        (apps.folder / "app0").mkdir()
        (apps.folder / "app0" / name).write_text(source)
    assert lines_of(ask(site(smoke))) == [example.status, *example.problems]


def test_examples__are_found() -> None:
    """The page has examples for each of the three packages, all with a report."""
    assert len(examples()) == 5
    assert all(example.status for example in examples())


@pytest.mark.parametrize(
    ("waiting", "lines"),
    [
        (50, ["PASS"]),
        (200, ["PASS", "shop.smoke.OrdersTest.test_few_orders_wait failed: 200 orders wait."]),
        (
            2000,
            [
                "FAIL",
                "shop.smoke.OrdersTest.test_few_orders_wait failed: 2000 orders wait.",
                "shop.smoke.OrdersTest.test_orders_go_out failed: 2000 orders wait.",
            ],
        ),
    ],
)
def test_example__warns_and_fails_like_the_check(
    site: Site, waiting: int, lines: list[str]
) -> None:
    """A ServiceWarning of django-health-check is a warning, a ServiceUnavailable a failure."""
    (example,) = (e for e in examples() if "OrdersTest" in e.smoke)
    cache.set("orders-waiting", waiting)
    try:
        assert lines_of(ask(site(example.smoke))) == lines
    finally:
        cache.clear()


def test_example__fails_like_the_check_of_watchman(site: Site) -> None:
    (example,) = (e for e in examples() if "StockTest" in e.smoke)
    cache.set("stock", 0)
    try:
        assert lines_of(ask(site(example.smoke)))[1:] == [
            "shop.smoke.StockTest.test_something_is_in_stock failed: Nothing is in stock."
        ]
    finally:
        cache.clear()


# Links and commands


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub generates for the headings."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_link__exists(target: str) -> None:
    """The page exists, and so does the heading in it."""
    page, _, anchor = target.partition("#")
    text = (DOCS / page).read_text() if page else PAGE
    assert not anchor or anchor in anchors(text)


@pytest.mark.parametrize(
    "arguments", sorted(set(re.findall(r"manage\.py smoketest\b([^`\n]*)`", PAGE)))
)
def test_command__has_these_options(arguments: str) -> None:
    """The options and their values are valid."""
    command.Command().create_parser("", "").parse_args(shlex.split(arguments))


# Statements about 2.0


@pytest.mark.parametrize(
    ("quoted", "body", "line"),
    [
        ("'x' not found in 'abc'", "self.assertIn('x', 'abc')", "failed: 'x' not found in 'abc'"),
        ("unexpectedly None", "self.assertIsNotNone(None)", "failed: unexpectedly None"),
        ("`KeyError: 'missing'`", "{}['missing']", "errored: KeyError: 'missing'"),
        ("the name of the exception", "raise ValueError", "errored: ValueError"),
        ("replaces the default message", "self.assertEqual(1, 2, 'mine')", "failed: mine"),
        ("that are not numbers", "self.assertGreater('a', 'b')", "failed: 'a' not greater"),
        ("`assert x`", "assert 1 == 2, 'plain'", "failed: plain"),
        ("`raise SystemExit`", "raise SystemExit(3)", "errored: 3"),
        ("those of unittest", "self.assertEqual(a=1, b=2)", "errored: TestCase.assertEqual() got"),
    ],
)
def test_message__is_that_of_the_page(site: Site, quoted: str, body: str, line: str) -> None:
    assert quoted in PAGE
    answer = ask(site(f"class T(SmokeTest):\n    def test_it(self):\n        {body}\n"))
    _, problem = lines_of(answer)
    assert problem.startswith(f"shop.smoke.T.test_it {line}")


#: Quotations of the page, a smoke module written for 1.x, and the lines of its report in 2.0.
ROWS: list[tuple[str, str, list[str]]] = [
    (
        "takes 1 positional argument but 2 were given",
        """
        class T(SmokeTest):
            def __init__(self):
                super().__init__()
            def test_a(self): pass
        """,
        ["FAIL", "T.test_a errored: T.__init__() takes 1 positional argument but 2 were given"],
    ),
    (
        "| one for each test |",
        """
        class T(SmokeTest):
            def test_a(self): self.x = 1
            def test_b(self): self.assertFalse(hasattr(self, "x"))
        """,
        ["PASS"],
    ),
    (
        "the test does not run",
        """
        class T(SmokeTest):
            def setUp(self): self.fail("set up")
            def test_a(self): 1 / 0
        """,
        ["FAIL", "T.test_a failed: set up"],
    ),
    (
        "was not called | is called",
        """
        class T(SmokeTest):
            def tearDown(self): raise ValueError("torn down")
            def test_a(self): self.fail("failed")
        """,
        ["FAIL", "T.test_a errored: torn down (and 1 more)"],
    ),
    (
        "failed the next test | fails this test",
        """
        class T(SmokeTest):
            def tearDown(self): self.fail("torn down")
            def test_a(self): pass
        """,
        ["FAIL", "T.test_a failed: torn down"],
    ),
    (
        "counts once, as errored",
        """
        class T(SmokeTest):
            def tearDown(self): raise ValueError("torn down")
            def test_a(self): pass
        """,
        ["FAIL", "T.test_a errored: torn down"],
    ),
    (
        "passed without running | runs",
        """
        class T(SmokeTest):
            async def test_a(self): self.fail("it runs")
        """,
        ["FAIL", "T.test_a failed: it runs"],
    ),
    (
        'an attribute `test_url = "..."`',
        """
        class T(SmokeTest):
            test_url = "x"
            def test_a(self): pass
        """,
        ["PASS"],
    ),
    (
        "`ATest.timeout is '5'; it must be a number of seconds greater than 0, or None.`",
        """
        class ATest(SmokeTest):
            timeout = "5"
            def test_a(self): pass
        """,
        [
            "FAIL",
            (
                "errored: cannot be imported: ATest.timeout is '5'; it must be a number of seconds"
                " greater than 0, or None."
            ),
        ],
    ),
    (
        "you can assign your own",
        """
        class T(SmokeTest):
            def setUp(self): self.client = 5
            def test_a(self): self.assertEqual(self.client, 5)
        """,
        ["PASS"],
    ),
    (
        "`shop.smoke errored: cannot be imported: No module named ...`",
        "import not_there",
        ["FAIL", "errored: cannot be imported: No module named 'not_there'"],
    ),
    (
        "your own class with the name `SmokeTest`",
        """
        import smoketest
        class SmokeTest(smoketest.SmokeTest):
            def test_a(self): self.fail("it runs")
        """,
        ["FAIL", "SmokeTest.test_a failed: it runs"],
    ),
    (
        "a class with two names in a module",
        """
        class T(SmokeTest):
            def test_a(self): self.fail("once")
        U = T
        """,
        ["FAIL", "T.test_a failed: once"],
    ),
    (
        "| after each test |",
        """
        class T(SmokeTest):
            def test_a(self): Account.objects.create(name="a")
            def test_b(self): self.assertFalse(Account.objects.exists())
        """,
        ["PASS"],
    ),
    (
        "affects only this test",
        """
        class T(SmokeTest):
            def test_a(self): [Account.objects.create(name="a") for _ in range(2)]
            def test_b(self): Account.objects.create(name="a")
        """,
        ["FAIL", "T.test_a errored: UNIQUE constraint failed: ledger_account.name"],
    ),
    (
        "`atomic(durable=True)`",
        """
        class T(SmokeTest):
            def test_a(self):
                with transaction.atomic(durable=True): pass
        """,
        ["PASS"],
    ),
]


@pytest.mark.parametrize(("quoted", "smoke", "lines"), ROWS, ids=[row[0] for row in ROWS])
def test_row__is_correct(site: Site, quoted: str, smoke: str, lines: list[str]) -> None:
    """A smoke module written for 1.x has the report that the row describes."""
    assert quoted in PAGE
    status, *problems = lines_of(ask(site(smoke)))
    expected, *wanted = lines
    assert status == expected
    assert [p.removeprefix(f"{APP}.smoke").lstrip(" .") for p in problems] == wanted


def test_first_assertion__ends_the_test(run_smoke: RunSmoke) -> None:
    """Statements after it do not run; in 1.x, they did."""
    report = run_smoke(
        """
        class T(SmokeTest):
            def test_a(self):
                self.assertEqual(1, 2, "first")
                raise ValueError("second")
        """
    )
    assert [result.message for result in report.results] == ["first"]


def test_skip__is_not_a_failure_and_not_run(site: Site) -> None:
    answer = ask(
        site("class T(SmokeTest):\n def test_a(self): raise unittest.SkipTest('not here')")
    )
    assert (answer["status"], answer["tests_run"], answer["tests_skipped"]) == ("PASS", 0, 1)
    assert "`tests skipped: 1`" in PAGE


def test_on_commit__hooks_never_run(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """1.x ran them although the rows were rolled back."""
    client = site(
        """
        class T(SmokeTest):
            def test_a(self):
                transaction.on_commit(lambda: print("the hook ran"))
                print("the test ran")
        """
    )
    assert lines_of(ask(client)) == ["PASS"]
    assert capsys.readouterr().out == "the test ran\n"


def test_rows_of_a_unit_test__are_not_visible(site: Site) -> None:
    """A TestCase is in a transaction that the connections of the smoke tests do not see."""
    client = site(
        "class T(SmokeTest):\n def test_a(self): self.assertFalse(Account.objects.exists())"
    )
    with transaction.atomic():
        Account.objects.create(name="a")
        answer = ask(client)
        transaction.set_rollback(True)
    assert answer["tests_passed"] == 1


def test_commit__is_refused_and_all_is_rolled_back(site: Site) -> None:
    """This applies to every database; 1.x rolled back only the default one."""
    client = site(
        """
        class T(SmokeTest):
            def test_commit(self):
                Account.objects.create(name="a")
                connection.cursor().execute("COMMIT")
            def test_other(self):
                Account.objects.using("other").create(name="b")
        """
    )
    assert lines_of(ask(client))[1].startswith("shop.smoke.T.test_commit errored: Refused")
    assert not Account.objects.exists()
    assert not Account.objects.using("other").exists()


def test_deferred_constraints__are_checked(run_smoke: RunSmoke) -> None:
    report = run_smoke(
        "class T(SmokeTest):\n def test_a(self): Entry.objects.create(account_id=99_999)"
    )
    assert outcomes(report) == {"test_a": "errored"}


def test_thread__has_no_language_of_the_request(run_smoke: RunSmoke) -> None:
    with translation.override("de"):
        report = run_smoke(
            """
            from django.utils import translation
            class T(SmokeTest):
                def test_a(self):
                    self.assertNotEqual(translation.get_language(), "de")
            """
        )
    assert outcomes(report) == {"test_a": "passed"}


def test_one_worker__runs_classes_in_the_order_of_definition(run_smoke: RunSmoke) -> None:
    """1.x sorted them by name."""
    classes = (f"class {n}(SmokeTest):\n def test_{n}(self): pass\n" for n in "cab")
    report = run_smoke("".join(classes), workers=1)
    by_time = sorted(report.results, key=lambda result: result.started_at)
    assert [result.id[-1] for result in by_time] == ["c", "a", "b"]


# Discovery


def test_package__all_modules_are_discovered(site: Site, apps: Apps) -> None:
    """This includes modules that its ``__init__.py`` does not import."""
    (apps.folder / "app0" / "smoke" / "deep").mkdir(parents=True)
    for name in ("__init__.py", "db.py", "deep/__init__.py", "deep/er.py"):
        (apps.folder / "app0" / "smoke" / name).write_text(
            "from smoketest import SmokeTest\nclass T(SmokeTest):\n def test_a(self): pass\n"
            if "__init__" not in name
            else ""
        )
    assert ask(site(None))["tests_run"] == 2


def test_app_config__tests_are_discovered(apps: Apps) -> None:
    """1.x looked for ``shop.apps.ShopConfig.smoke``."""
    config = "from django.apps import AppConfig\nclass C(AppConfig):\n name = 'app0'\n"
    apps.add("class T(SmokeTest):\n def test_a(self): pass", files={"apps.py": config})
    with apps.installed("app0.apps.C"):
        assert ask(Client())["tests_run"] == 1


def test_imported_class__does_not_run_without_a_subclass(site: Site, apps: Apps) -> None:
    """The page warns of this; the examples include one with a subclass."""
    assert "**if no smoke module defines it, it does not run**" in PAGE
    (apps.folder / "app0").mkdir()
    (apps.folder / "app0" / "checks.py").write_text(
        "from smoketest import SmokeTest\nclass T(SmokeTest):\n def test_a(self): pass\n"
    )
    assert site("from app0.checks import T").get("/smoketest/").status_code == 404


def test_skip_apps__must_not_be_a_string(site: Site) -> None:
    client = site(PASSES, SMOKETEST_SKIP_APPS=APP)
    assert client.get("/smoketest/").status_code == 503
    with pytest.raises(SystemCheckError, match=r"smoketest\.E001"):
        call_command("check", "--tag", "smoketest")
    assert "smoketest.E001" in PAGE


def test_no_tests__is_404(site: Site) -> None:
    assert site(PASSES, SMOKETEST_SKIP_APPS=["app0"]).get("/smoketest/").status_code == 404


# The endpoint


PASSES = "class T(SmokeTest):\n def test_a(self): pass\n"
FAILS = "class T(SmokeTest):\n def test_a(self): self.fail('it fails')\n"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/html,application/json;q=0.1", "text/html; charset=utf-8"),
        ("application/json, text/plain, */*", "application/json"),
        ("image/png", "text/plain; charset=utf-8"),
    ],
)
def test_accept__chooses_the_format(site: Site, accept: str, content_type: str) -> None:
    response = site(FAILS).get("/smoketest/", headers={"Accept": accept} if accept else {})
    assert response["Content-Type"] == content_type
    assert response["Cache-Control"] == "no-store, private"
    assert response.status_code == 500


def test_page__has_the_status_in_its_heading(site: Site) -> None:
    """A browser gets it with status 200."""
    client = site(FAILS)
    response = client.get("/smoketest/", headers={"Accept": "text/html"})
    assert re.search(r"<h1[^>]*>FAIL</h1>", response.text)
    browser = {"Accept": "text/html", "Upgrade-Insecure-Requests": "1"}
    assert client.get("/smoketest/", headers=browser).status_code == 200


def test_unknown_parameter__is_400(site: Site) -> None:
    assert site(PASSES).get("/smoketest/?ts=123").status_code == 400


def test_format_text__overrides_accept(site: Site) -> None:
    response = site(FAILS).get("/smoketest/?format=text", headers={"Accept": "text/html"})
    assert response.text.startswith("FAIL\n")


def test_post__without_csrf_token_is_403(site: Site) -> None:
    site(PASSES)
    assert Client(enforce_csrf_checks=True).post("/smoketest/").status_code == 403


@pytest.mark.usefixtures("site")
def test_not_installed__is_503(apps: Apps) -> None:
    """1.x needed only the URLs, not the app."""
    apps.add(PASSES)
    with override_settings(INSTALLED_APPS=["tests.ledger", *apps.names]):
        assert Client().get("/smoketest/").status_code == 503


@contextmanager
def with_users(*middleware: str, **changes: Any) -> Iterator[None]:
    """Override the settings of the site with sessions, users and this middleware."""
    with override_settings(
        INSTALLED_APPS=[
            *settings.INSTALLED_APPS,
            "django.contrib.auth",
            "django.contrib.contenttypes",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            *middleware,
        ],
        **changes,
    ):
        yield


def test_login_required_middleware__does_not_apply(site: Site) -> None:
    """The page warns of this. With tokens, the endpoint itself requires one."""
    token = "a-token-of-the-page-0123"
    client = site(PASSES)
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with with_users(required):
        assert client.get("/smoketest/").status_code == 200
    with with_users(required, SMOKETEST_TOKENS=[token]):
        assert client.get("/smoketest/").status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/smoketest/", headers=headers).status_code == 200


class WithoutInclude:
    urlpatterns = [path("smoketest/", IndexView.as_view())]


class Decorated:
    urlpatterns = [path("smoketest/", login_required(IndexView.as_view(), login_url="/login/"))]


class Dollar:
    urlpatterns = [re_path(r"^smoketest/$", include("smoketest.urls"))]


def test_decorated_view__redirects_to_the_login_page(site: Site) -> None:
    client = site(PASSES)
    with with_users(ROOT_URLCONF=Decorated):
        response = client.get("/smoketest/")
    assert (response.status_code, response["Location"]) == (302, "/login/?next=/smoketest/")


@pytest.mark.parametrize("urls", [WithoutInclude, Dollar])
def test_view__works_with_other_urls(site: Site, urls: type) -> None:
    """The HTML page and the metrics are not available."""
    client = site(PASSES, ROOT_URLCONF=urls)
    response = client.get("/smoketest/", headers={"Accept": "text/html"})
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert client.get("/smoketest/metrics").status_code == 404


def test_reverse__is_as_in_1x() -> None:
    assert reverse("smoketest:smoketest") == "/smoketest/"


def test_failures__are_logged_and_not_mailed_to_admins(
    site: Site, caplog: pytest.LogCaptureFixture, mailoutbox: list[Any]
) -> None:
    client = site(FAILS, ADMINS=[("a", "admin@example.org")])
    client.get("/smoketest/")
    client.get("/smoketest/")  # of the same run
    assert [record.name for record in caplog.records] == ["smoketest.problems"]
    assert mailoutbox == []


# Back to 1.x


def test_databases__have_no_tables_of_the_package() -> None:
    """Without tables and migrations, there is nothing to undo."""
    config = registry.get_app_config("smoketest")
    assert list(config.get_models()) == []
    assert not (Path(config.path) / "migrations").exists()
