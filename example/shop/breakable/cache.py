"""File-based cache that can be broken."""

from typing import Any

from django.core.cache.backends.filebased import FileBasedCache

from shop.switches import NOWHERE, is_broken, switches_ignored


class BreakableCache(FileBasedCache):
    """Uses a path that cannot exist while the switch ``cache`` is set."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        # System checks create the cache; an error here would prevent any command from starting.
        with switches_ignored():
            super().__init__(location, params)

    @property
    def _dir(self) -> str:
        return NOWHERE if is_broken("cache") else self._location

    @_dir.setter
    def _dir(self, location: str) -> None:
        self._location = location
