"""File-based cache whose folder goes missing."""

from typing import Any

from django.core.cache.backends.filebased import FileBasedCache

from shop.switches import NOWHERE, all_mended, is_broken


class BreakableCache(FileBasedCache):
    """Works below a path that cannot exist while the switch ``cache`` is set."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        # The system checks make a cache: no command would start, not even the smoke tests.
        with all_mended():
            super().__init__(location, params)

    @property
    def _dir(self) -> str:
        return NOWHERE if is_broken("cache") else self._location

    @_dir.setter
    def _dir(self, location: str) -> None:
        self._location = location
