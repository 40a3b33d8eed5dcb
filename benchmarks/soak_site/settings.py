"""Settings of the example shop, with an additional app."""

from shop import settings as shop
from shop.settings import *  # noqa: F403

INSTALLED_APPS = [*shop.INSTALLED_APPS, "soak_site"]
