"""Settings of the example site when no scrape starts a run."""

from shop.settings import *  # noqa: F403

SMOKETEST_RUN_ON_SCRAPE = False
