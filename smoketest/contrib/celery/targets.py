"""The Celery app of the site, and its queues."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery import current_app
from celery.app.utils import find_app
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from smoketest.contrib.celery.conf import CeleryConf, conf

#: Name of the app that Celery creates if the site has none.
_FALLBACK = "default"


def site_app() -> Any:
    """Return the app of the setting, the current app, or the app of the settings module's package.

    Raises `ImproperlyConfigured`.
    """
    if conf.app:
        return _find(conf.app, f"{CeleryConf.app.name} is {conf.app!r}")
    app = current_app._get_current_object()
    if app.main != _FALLBACK:
        return app
    package = str(getattr(settings, "SETTINGS_MODULE", "")).partition(".")[0]
    return _find(package, f"There is no current Celery app, and the package {package!r} has none")


def _find(path: str, problem: str) -> Any:
    try:
        return find_app(path, imp=import_module)
    except (ImportError, AttributeError, ValueError) as error:
        msg = (
            f"{problem}: {error}. Set {CeleryConf.app.name} to the location of the app, such as"
            " 'shop.celery:app'."
        )
        raise ImproperlyConfigured(msg) from error


def site_queues(app: Any) -> list[str]:
    """Return the queues of the setting, or else all queues of the app."""
    return list(conf.queues if conf.queues is not None else app.amqp.queues)
