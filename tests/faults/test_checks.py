"""System check for tables that do not support transactions."""

from __future__ import annotations

import pytest
from django.db import connections

from smoketest.checks import check_tables
from tests.faults.backends import site
from tests.faults.conftest import Backends


@pytest.mark.xdist_group("mariadb")
def test_check_tables__without_transactions(backends: Backends) -> None:
    """MyISAM tables are reported with a hint; InnoDB tables are not."""
    backend = backends("mysql")
    with backend.restore_on_error(), site(backend.databases()):
        (message,) = check_tables(databases=["default", "down"])
        connections["default"].close()
    assert message.id == "smoketest.W005"
    assert message.msg == (
        "Writes to these tables of database 'default' cannot be rolled back: ledger_myisam"
        " (MyISAM)."
    )
    assert "ENGINE = InnoDB" in str(message.hint)
