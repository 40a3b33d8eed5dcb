"""SQLite database backend that can be broken. Django requires the module name ``base``."""

from typing import Any

from django.db.backends.sqlite3 import base

from shop.switches import NOWHERE, is_broken


class DatabaseWrapper(base.DatabaseWrapper):
    """Opens a file that does not exist while the switch ``archive`` is set."""

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        return {**params, "database": NOWHERE} if is_broken("archive") else params
