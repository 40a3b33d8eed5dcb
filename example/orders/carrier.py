"""Client of the parcel service. It only simulates the latency of requests."""

import time
from decimal import Decimal

from django.conf import settings

from shop.switches import is_broken


def quote(copies: int) -> Decimal:
    """Return the price for sending this number of books."""
    time.sleep(settings.CARRIER_LATENCY)
    return Decimal("2.50") + copies * Decimal("0.75")


def is_open() -> bool:
    """Return whether the carrier collects parcels today."""
    if is_broken("hang"):
        time.sleep(3600)
    return True
