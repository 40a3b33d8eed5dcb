"""The Celery app of the site, and its queues."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery import current_app
from celery.app.utils import find_app
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from smoketest.contrib.celery.conf import CeleryConf, conf

#: What Celery calls the app that it makes where the site has made none.
_FALLBACK = "default"


def site_app() -> Any:
    """That of the setting, the current one, or that of the package in which the settings are.

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
            f"{problem}: {error}. Set {CeleryConf.app.name} to where the app is, such as"
            " 'shop.celery:app'."
        )
        raise ImproperlyConfigured(msg) from error


def site_queues(app: Any) -> list[str]:
    """Those of the setting, or else all that the app knows."""
    return list(conf.queues if conf.queues is not None else app.amqp.queues)
