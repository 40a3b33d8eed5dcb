"""The system check of tables that no smoke test may write to."""

from __future__ import annotations

import pytest
from django.db import connections

from smoketest.checks import check_tables
from tests.faults.conftest import Places
from tests.faults.places import site


@pytest.mark.xdist_group("mariadb")
def test_check_tables__names_what_cannot_be_rolled_back(places: Places) -> None:
    """Tables of MyISAM and their like are named, with what to do; InnoDB's are not."""
    place = places("mysql")
    with place.put_right(), site(place.databases()):
        (message,) = check_tables(databases=["default", "down"])
        connections["default"].close()
    assert message.id == "smoketest.W005"
    assert message.msg == (
        "Writes to these tables of database 'default' cannot be rolled back: ledger_myisam"
        " (MyISAM)."
    )
    assert "ENGINE = InnoDB" in str(message.hint)
