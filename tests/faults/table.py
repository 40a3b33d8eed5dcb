"""The fault table: the rows of all themes, in the order of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.faults import (
    aliases,
    attributes,
    catching,
    drivers,
    exceptions,
    fixtures,
    hangs,
    locking,
    raw_connections,
    receivers,
    sequences,
    site_settings,
    statements,
    transactions,
)
from tests.faults.fault import ROWS, Fault

_THEMES = (
    transactions,
    fixtures,
    statements,
    drivers,
    raw_connections,
    receivers,
    sequences,
    site_settings,
    aliases,
    attributes,
    catching,
    exceptions,
    hangs,
    locking,
)
#: Titles of the themes, by module name and in the order of the documentation.
THEMES: Mapping[str, str] = {
    theme.__name__.rpartition(".")[2]: (theme.__doc__ or "").partition("\n")[0] for theme in _THEMES
}

TABLE: Sequence[Fault] = sorted(ROWS, key=lambda fault: list(THEMES).index(fault.theme))
