"""Example site with this app, configured by environment variables."""

import os

from shop import settings as shop
from shop.settings import *  # noqa: F403

INSTALLED_APPS = [*shop.INSTALLED_APPS, "tests.e2e.pages"]
SMOKETEST_SKIP_APPS = [*shop.SMOKETEST_SKIP_APPS, *os.environ.get("PAGES_SKIP", "").split()]
SMOKETEST_TOKENS = os.environ.get("PAGES_TOKENS", "").split()
if os.environ.get("PAGES_POLICY"):
    MIDDLEWARE = ["tests.e2e.pages.middleware.policy", *shop.MIDDLEWARE]
