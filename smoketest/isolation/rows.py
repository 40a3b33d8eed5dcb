"""Django's caches of rows in the process, which a rollback does not undo."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from django.apps import apps

logger = logging.getLogger("smoketest")

#: Attributes of cached rows by their key, by the function that clears their cache. They differ if
#: the row was replaced, because each has its own ``_state``.
CachedRows = Mapping[Callable[[], None], Mapping[Hashable, dict[str, Any]]]


def cached_rows() -> CachedRows:
    """Return the rows in the caches of content types and sites.

    See ``ContentTypeManager.clear_cache`` and ``SiteManager.clear_cache``.
    """
    found: dict[Callable[[], None], Mapping[Hashable, dict[str, Any]]] = {}
    if apps.is_installed("django.contrib.contenttypes"):
        manager = _manager("contenttypes", "ContentType")
        found[manager.clear_cache] = {
            (alias, key): dict(vars(row))
            for alias, rows in dict(manager._cache).items()
            for key, row in dict(rows).items()
        }
    if apps.is_installed("django.contrib.sites"):
        manager = _manager("sites", "Site")
        cache = sys.modules["django.contrib.sites.models"].SITE_CACHE
        if type(cache) is dict:  # a site may have replaced it with a cache of its own
            found[manager.clear_cache] = {key: dict(vars(row)) for key, row in dict(cache).items()}
    return found


def _manager(app: str, model: str) -> Any:
    return apps.get_app_config(app).get_model(model)._default_manager


def clear_if_changed(before: CachedRows) -> None:
    """Clear each cache with a row that was not there before, or that has changed.

    The row may have been rolled back. Earlier rows are not put back, because they may have changed.
    """
    for clear, rows in cached_rows().items():
        known = before.get(clear, {})
        if any(known.get(key) != row for key, row in rows.items()):
            try:
                clear()
            except Exception:
                logger.exception("The cached rows of a smoke test cannot be cleared.")
