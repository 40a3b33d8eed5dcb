"""SQLite database whose file goes missing; Django looks for it in a module of this name."""

from typing import Any

from django.db.backends.sqlite3 import base

from shop.switches import NOWHERE, is_broken


class DatabaseWrapper(base.DatabaseWrapper):
    """Opens a file that is not there while the switch ``archive`` is set."""

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        return {**params, "database": NOWHERE} if is_broken("archive") else params
