"""Arguments of `manage.py smoketest`: values, combinations, selection and run options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smoketest.cli.arguments import FORMATS, TOKEN_VARIABLE
from smoketest.coordination.coordinator import Coordinator
from tests import hanging
from tests.cli.site import FAILS, PASSES, Run
from tests.conftest import Apps

URL = "http://127.0.0.1:1/smoketest/"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "many"], "'many' is not a valid number of threads; use 1 or more, or 0"),
        (["--workers", "-1"], "--workers: "),
        (["--workers", "1.5"], "'1.5' is not a valid number of threads"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a valid duration; write a number"),
        (["--timeout", "0"], "'0' is not a valid duration"),
        (["--run-timeout", "long"], "--run-timeout: 'long' is not a valid duration"),
        (["--until-stable", "ever"], "--until-stable: 'ever' is not a valid duration"),
        (["--until-stable", "1s", "--deadline", "x"], "--deadline: 'x' is not a valid duration"),
        (
            ["--format", "yaml"],
            "'yaml' is not a format; use text, json, junit, ndjson, prometheus.",
        ),
        (["--format", "jsn"], "Did you mean json?"),
        (["--until", "5s"], "unknown argument --until. Did you mean --until-stable?"),
        (["--formt=json"], "unknown argument --formt. Did you mean --format?"),
        (["-k", ""], "-k: the name is empty"),
        (["--url", "shop.example"], "is not a valid URL; use that of the smoke test page, such as"),
        (["--url", ""], "is not a valid URL"),
        (["--url", "https://a:hunter@b.example/"], "the URL contains a password, which"),
        ([""], "the name is empty; leave it out to run all tests"),
        (["--tag", ""], "--tag: the name is empty"),
        (["--exclude-tag", ""], "--exclude-tag: the name is empty"),
        (["--url", URL, "--token", "ключ-ключ-ключ-ключ"], "contains spaces or non-ASCII char"),
        (["--url", URL, "--token", "one two three four five"], "contains spaces or non-ASCII char"),
        (["--url", URL, "--token", "one\nX-Header: two"], "contains spaces or non-ASCII char"),
    ],
)
def test_invalid_value(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    """The error message quotes the value and states what is allowed."""
    assert message in refused(*arguments)


def test_invalid_value__format(run: Run) -> None:
    """The error message lists all formats."""
    stderr = run("--format", "yaml")[2]
    assert all(name in stderr for name in FORMATS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # --pause and --resume accept no option of a run.
        (["--pause", "1h", "--reason", "x", "a.b"], "--pause does not run tests; leave out ID"),
        (["--resume", "--failed"], "--resume does not run tests; leave out --failed."),
        (["--resume", "--workers", "0"], "leave out --workers."),
        (["--resume", "--list"], "leave out --list."),
        (["--resume", "--url", URL], "leave out --url."),
        (["--resume", "--format", "json"], "leave out --format."),
        # --every accepts no option of a single run.
        (["--every", "60s", "shop"], "--every runs all tests regularly and prints a line for each"),
        (["--every", "60s", "--tag", "db"], "leave out --tag."),
        (["--every", "60s", "--exclude-tag", "db"], "leave out --exclude-tag."),
        (["--every", "60s", "--failed"], "leave out --failed."),
        (["--every", "60s", "--failfast"], "leave out --failfast."),
        (["--every", "60s", "--format", "json"], "leave out --format."),
        (["--every", "60s", "--output", "x"], "leave out --output."),
        (["--every", "60s", "--no-store"], "leave out --no-store."),
        (["--every", "60s", "--until-stable", "5s"], "leave out --until-stable."),
        (["--every", "60s", "--list", "--url", URL], "leave out --list and --url."),
        # Exports require stored results.
        (
            ["--no-store", "--textfile", "x.prom"],
            "--no-store cannot be used with --textfile, because only stored results are exported.",
        ),
        (["--no-store", "--pushgateway", "localhost:9091"], "with --pushgateway, because"),
        (["--no-store", "--format", "prometheus"], "of this host; leave out --no-store."),
        (["--url", URL, "--format", "prometheus"], "of this host; leave out --url."),
        # --until-stable
        (["--deadline", "5m"], "--deadline requires --until-stable."),
        (
            ["--until-stable", "300s"],
            "--until-stable 300s must be shorter than the --deadline of 300s",
        ),
        (["--until-stable", "5s", "--deadline", "5s"], "increase the --deadline."),
        # --url
        (["--token", "x" * 20], "--token requires --url."),
        (["--url", URL, "--failed"], "--url runs the tests on the deployed site, with its sett"),
        (["--url", URL, "--workers", "4"], "leave out --workers."),
        (["--url", URL, "--workers", "0"], "leave out --workers."),
        (["--url", URL, "--timeout", "5s"], "leave out --timeout."),
        (["--url", URL, "--no-store"], "leave out --no-store."),
        (["--url", URL, "--list"], "leave out --list."),
        (["--url", URL, "--textfile", "x.prom"], "leave out --textfile."),
        (["--url", URL, "--pushgateway", "localhost:9091"], "leave out --pushgateway."),
        # --list
        (["--list", "--failfast"], "--list does not run tests; leave out --failfast."),
        (["--list", "--workers", "2"], "--list does not run tests; leave out --workers."),
        (["--list", "--workers", "0"], "--list does not run tests; leave out --workers."),
        (["--list", "--timeout", "2s"], "leave out --timeout."),
        (["--list", "--run-timeout", "2s"], "leave out --run-timeout."),
        (["--list", "--no-store"], "leave out --no-store."),
        (["--list", "--until-stable", "5s"], "leave out --until-stable."),
        (["--list", "--textfile", "x.prom"], "leave out --textfile."),
        (["--list", "--format", "junit"], "--list supports only the formats text and json."),
        (["--list", "--format", "prometheus"], "--list supports only the formats text and json."),
    ],
)
def test_invalid_combination(
    refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    """The error message names the options that conflict or would be ignored."""
    assert message in refused(*arguments)


def test_token__from_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trailing newline in the environment variable is ignored; the token is not printed."""
    monkeypatch.setenv(TOKEN_VARIABLE, "sixteen-or-more-characters\n")
    code, _, stderr = run("--url", URL)
    assert code == 1
    assert f"{URL} cannot be reached" in stderr
    assert "sixteen" not in stderr


# Selection

SEVERAL = """
class T(SmokeTest):
    @tag("db")
    def test_one(self):
        pass

    @tag("db", "slow")
    def test_two(self):
        pass

    @tag("mail")
    def test_three(self):
        pass

class U(SmokeTest):
    def test_four(self):
        pass
"""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], {"one", "two", "three", "four"}),
        (["app0"], {"one", "two", "three", "four"}),
        (["app0.smoke.U"], {"four"}),
        (["app0.smoke.T.test_one", "app0.smoke.U"], {"one", "four"}),
        (["app0.smoke.U", "app0.smoke.U", "app0.smoke.U.test_four"], {"four"}),
        (["--tag", "db"], {"one", "two"}),
        (["--tag", "db", "--tag", "mail"], {"one", "two", "three"}),
        (["--tag", "db", "--exclude-tag", "slow"], {"one"}),
        (["--exclude-tag", "db", "--exclude-tag", "nothing-has-it"], {"three", "four"}),
        (["U"], {"four"}),
        (["test_one", "U.test_four"], {"one", "four"}),
        (["-k", "three"], {"three"}),
        (["-k", "T.test_t*", "-k", "four"], {"four"}),
        (["-k", "*.T.test_t*", "-k", "four"], {"two", "three", "four"}),
        (["-k", "smoke.T", "--exclude-tag", "db"], {"three"}),
        (["app0.smoke.T", "--tag", "mail"], {"three"}),
    ],
)
def test_selection(run: Run, arguments: list[str], names: set[str]) -> None:
    """Each selected test runs exactly once."""
    code, stdout, stderr = run(*arguments, smoke=SEVERAL)
    assert code == 0
    assert f"tests run: {len(names)}\n" in stdout
    assert all(f".test_{name} (" in stderr for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["app0.smoke.T.test_on"],
            "is named app0.smoke.T.test_on. Did you mean app0.smoke.T.test_",
        ),
        (["test_foor"], "Did you mean app0.smoke.U.test_four"),
        (["-k", "nothing", "-k", "x*y"], "No test matches -k nothing or x*y."),
        (["--tag", "mial"], "No smoke test has the tag mial. Did you mean mail?"),
        (["--tag", "db", "--tag", "dv"], "No smoke test has the tag dv."),
        (["app0.smoke.U", "--tag", "db"], "No smoke test matches test app0.smoke.U, tag db."),
    ],
)
def test_selection__no_match(run: Run, arguments: list[str], message: str) -> None:
    """The command exits with 3 and suggests similar names."""
    code, stdout, stderr = run(*arguments, smoke=SEVERAL)
    assert (code, stdout) == (3, "")
    assert message in stderr


def test_selection__name_of_several_tests(run: Run) -> None:
    """A name without its module must be unique."""
    smoke = f"{SEVERAL}\nclass V(SmokeTest):\n    def test_four(self):\n        pass\n"
    code, stdout, stderr = run("test_four", smoke=smoke)
    assert (code, stdout) == (3, "")
    assert "test_four is not unique; use one of app0.smoke.U.test_four, app0.smoke.V.test" in stderr


def test_exclude_tag__unknown(run: Run) -> None:
    """A notice suggests a known tag, and the tests run."""
    code, _, stderr = run("--exclude-tag", "slwo", smoke=SEVERAL)
    assert code == 0
    assert stderr.startswith("No smoke test has the tag slwo. Did you mean slow?\nRunning 4 tests")


# --failed

FAILING = """
class T(SmokeTest):
    def test_passes(self):
        pass

    @tag("db")
    def test_fails(self):
        self.fail("x")

class U(SmokeTest):
    severity = "warning"
    def test_warns(self):
        self.fail("y")
"""


def test_failed(run: Run) -> None:
    """All tests that failed in the last run, including warnings, run again until they pass."""
    assert run(smoke=FAILING)[0] == 1
    for _ in range(2):
        code, stdout, stderr = run("--failed")
        assert code == 1
        assert "tests run: 2\n" in stdout
        assert "test_passes" not in stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--tag", "db"], "test_fails"),
        (["app0.smoke.U"], "test_warns"),
        (["app0.smoke.T"], "test_fails"),
        (["--exclude-tag", "db"], "test_warns"),
    ],
)
def test_failed__with_selection(run: Run, arguments: list[str], name: str) -> None:
    """Only tests that match both --failed and the selection run."""
    run(smoke=FAILING)
    _, stdout, stderr = run("--failed", *arguments)
    assert "tests run: 1\n" in stdout
    assert f".{name} (" in stderr


def test_failed__no_failures(run: Run) -> None:
    """The command exits with 3 if no test has failed or none has run yet."""
    for _ in range(2):
        code, stdout, stderr = run("--failed")
        assert (code, stdout) == (3, "")
        assert "No test failed when it last ran (every test). Leave out --failed" in stderr
        run()


def test_failed__unknown_name(run: Run) -> None:
    """An unknown name is reported as it is without --failed."""
    run(smoke=FAILING)
    code, _, stderr = run("--failed", "app0.smoke.T.test_fals")
    assert code == 3
    assert "No smoke test is named app0.smoke.T.test_fals. Did you mean" in stderr


@pytest.mark.parametrize("hook", ["setUpClass", "tearDownClass", "tearDownModule"])
def test_failed__fixture_error(run: Run, hook: str) -> None:
    """After a fixture error, all tests of the class or module run again."""
    if hook == "tearDownModule":
        smoke = f"{PASSES}\ndef tearDownModule():\n    raise RuntimeError\n"
    else:
        smoke = f"{PASSES}\n    @classmethod\n    def {hook}(cls):\n        raise RuntimeError\n"
    assert run(smoke=smoke)[0] == 1
    code, stdout, stderr = run("--failed")
    assert code == 1
    assert "app0.smoke.T.test_it" in stderr
    assert hook in stdout


def test_failed__module_importable_again(run: Run, apps: Apps) -> None:
    """After a collection error is fixed, the selected tests of the module run."""
    assert run(smoke="raise RuntimeError")[0] == 1
    (apps.folder / "app0" / "smoke.py").write_text(
        "from smoketest import SmokeTest\n"
        "class Longer(SmokeTest):\n"
        "    def test_one(self): pass\n"
        "    def test_two(self): pass\n"
    )
    code, _, stderr = run("--failed", "app0.smoke.Longer.test_two")
    assert code == 0
    assert "test_two" in stderr
    assert "test_one" not in stderr


def test_failed__module_not_importable(run: Run) -> None:
    run(smoke="raise RuntimeError")
    code, stdout, _ = run("--failed")
    assert code == 1
    assert "app0.smoke errored" in stdout


def test_failed__removed_test(run: Run, apps: Apps) -> None:
    """A failed test that no longer exists is ignored."""
    run(smoke=FAILS)
    apps.names.clear()
    apps.add(FAILS, name="app1")
    code, _, stderr = run("--failed")
    assert code == 3
    assert "No test failed when it last ran" in stderr


# Run options

SLOW = """
class T(SmokeTest):
    def test_default(self):
        time.sleep(0.5)

class U(SmokeTest):
    timeout = 60
    def test_declares(self):
        time.sleep(0.5)
"""


def test_timeout(run: Run) -> None:
    """--timeout applies to tests that do not declare a timeout."""
    code, stdout, _ = run("--timeout", "0.2s", smoke=SLOW)
    assert code == 1
    assert "app0.smoke.T.test_default errored: timed out after 0.2 s" in stdout
    assert "test_declares" not in stdout


def test_run_timeout(run: Run) -> None:
    """--run-timeout ends the run regardless of the timeouts that tests declare."""
    hanging.reset()
    smoke = SLOW.replace("time.sleep(0.5)", "hanging.hang()")
    code, stdout, _ = run(
        "--run-timeout", "0.2s", "--format", "json", smoke=f"from tests import hanging\n{smoke}"
    )
    hanging.assert_hanging()
    hanging.released.set()
    assert code == 4
    messages = [result["message"] for result in json.loads(stdout)["results"]]
    assert messages == ["the run timed out after 0.2 s"] * 2


@pytest.mark.parametrize(("arguments", "seconds"), [([], 90), (["--run-timeout", "2m"], 120)])
def test_run_timeout__from_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], seconds: float
) -> None:
    """SMOKETEST_RUN_TIMEOUT is the default of --run-timeout."""
    timeouts = []
    original_run = Coordinator.run

    def record_timeout(coordinator: Coordinator, *args: object, **kwargs: object) -> object:
        timeouts.append(coordinator.options.run_timeout)
        return original_run(coordinator, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Coordinator, "run", record_timeout)
    assert run(*arguments, SMOKETEST_RUN_TIMEOUT=90)[0] == 0
    assert timeouts == [seconds]


def test_workers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--workers sets the number of threads; 0 runs the tests in the main thread."""
    smoke = "import os, threading\nbarrier = threading.Barrier(2)\n" + "".join(
        f"class T{n}(SmokeTest):\n"
        "    def test_it(self):\n"
        "        if 'MEET' in os.environ:\n"
        "            barrier.wait(60)\n"
        "        self.fail(threading.current_thread().name)\n"
        for n in range(4)
    )
    assert "smoketest-1" not in run("--workers", "1", smoke=smoke)[1]
    with monkeypatch.context() as context:
        context.setenv("MEET", "1")
        assert "smoketest-1" in run("--workers", "2")[1]
    assert run("--workers", "0")[1].count("failed: MainThread") == 4


def test_failfast(run: Run) -> None:
    """No test starts after the first critical failure; a warning does not stop the run."""
    run_all = run("--failfast", "--workers", "1", smoke=FAILING)[1]
    assert "tests failed: 1\n" in run_all
    assert "tests not run: 2\n" in run_all
    assert run("--failfast", "app0.smoke.U")[0] == 0


def test_no_store(run: Run, tmp_path: Path) -> None:
    """Stored results are unchanged, and the path of the store is not printed."""
    run(smoke=FAILS)
    before = (tmp_path / "state" / "results.sqlite3").read_bytes()
    code, _, stderr = run("--no-store")
    assert code == 1
    assert "Results are stored in" not in stderr
    assert (tmp_path / "state" / "results.sqlite3").read_bytes() == before
