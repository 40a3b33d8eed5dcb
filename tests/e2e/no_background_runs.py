"""Settings of the example site without runs started by scrapes."""

from shop.settings import *  # noqa: F403

SMOKETEST_RUN_ON_SCRAPE = False
