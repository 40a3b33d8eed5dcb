"""A server that does not answer: the thread of the test ends nevertheless."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest

from smoketest import SmokeTest
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import ServerBackend, site
from tests.faults.conftest import VENDORS, Backends
from tests.faults.fault import suite
from tests.faults.harness import assert_nothing_held, changes, outcomes, run_suite
from tests.ledger.models import Account
from tests.servers.processes import wait_for
from tests.servers.services import missing

pytestmark = pytest.mark.e2e


class UsesSilentServer(SmokeTest):
    """A test that connects to a server that never answers."""

    __test__ = False  # for pytest

    def test_it(self) -> None:
        Account.objects.using("silent").count()


@pytest.mark.parametrize("vendor", VENDORS[1:])
def test_silent_server__thread_of_the_test_ends(backends: Backends, vendor: str) -> None:
    """Stop connecting after the timeout of the test, so that it can start again."""
    backend = backends(vendor)
    abandoned = LocallyAbandoned()
    with site(backend.databases()):
        report = run_suite(suite(UsesSilentServer, "silent", timeout=1), abandoned)
        assert outcomes(report)[0] in {"timed_out", "errored"}
        wait_for(abandoned.count, lambda count: not count, what="the threads to end", within=30)


@pytest.mark.parametrize("vendor", VENDORS[1:])
def test_frozen_server__thread_of_the_test_ends(backends: Backends, vendor: str) -> None:
    """Close the connection if the server stops between two statements, and does not even refuse."""
    backend = backends(vendor)
    assert isinstance(backend, ServerBackend)
    server = backend.server
    processes: list[int] = []

    class FreezesServer(SmokeTest):
        def test_it(self) -> None:
            Account.objects.count()
            processes[:] = server.family()
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            Account.objects.count()

    abandoned = LocallyAbandoned()
    with backend.restore_on_error(), site(backend.databases()):
        try:
            report = run_suite(suite(FreezesServer, "frozen", timeout=2), abandoned)
            assert outcomes(report) == ("timed_out",)
            wait_for(abandoned.count, lambda count: not count, what="the threads to end", within=30)
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)
        assert_nothing_held(backend)
        assert changes(backend) == []


#: A site that uses psycopg2, which Django does if psycopg 3 is not installed.
WITH_PSYCOPG2 = """
import json, os, signal, sys
sys.modules["psycopg"] = None
import django
django.setup()
from smoketest import SmokeTest
from smoketest.store.abandoned import LocallyAbandoned
from tests.faults.backends import site
from tests.faults.fault import sql, suite
from tests.faults.harness import outcomes, run_suite
from tests.ledger.models import Account
from tests.servers.processes import wait_for

database, processes = map(json.loads, sys.argv[1:])

class FreezesServer(SmokeTest):
    def test_it(self):
        ((backend,),) = sql("SELECT pg_backend_pid()")
        for process in (*processes, backend):
            os.kill(process, signal.SIGSTOP)
        Account.objects.count()

abandoned = LocallyAbandoned()
with site({"default": database}):
    report = run_suite(suite(FreezesServer, "frozen", timeout=2), abandoned)
wait_for(abandoned.count, lambda count: not count, what="the threads to end", within=30)
print(*outcomes(report), sys.modules["psycopg2"].__name__)
"""


@pytest.mark.xdist_group("postgresql")
def test_frozen_server__does_not_block_a_process_with_psycopg2(backends: Backends) -> None:
    """Do not call a method of the driver that blocks all threads while the server is silent."""
    if importlib.util.find_spec("psycopg2") is None:
        missing("psycopg2 is not installed")
    backend = backends("postgresql")
    assert isinstance(backend, ServerBackend)
    server = backend.server
    with backend.restore_on_error():
        try:
            site_process = subprocess.run(
                [
                    *(sys.executable, "-c", WITH_PSYCOPG2),
                    *(json.dumps(backend.databases()["default"]), json.dumps(server.family())),
                ],
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        finally:
            for process in server.family():
                os.kill(process, signal.SIGCONT)
        assert site_process.stdout == "timed_out psycopg2\n", site_process.stderr
        assert_nothing_held(backend)
        assert changes(backend) == []
