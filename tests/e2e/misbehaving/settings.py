"""Example site with this app."""

from shop import settings as shop
from shop.settings import *  # noqa: F403

INSTALLED_APPS = [*shop.INSTALLED_APPS, "tests.e2e.misbehaving"]
