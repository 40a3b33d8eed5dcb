"""The client of the parcel service. The example makes no requests: it only takes its time."""

import time
from decimal import Decimal

from django.conf import settings

from shop.switches import is_broken


def quote(copies: int) -> Decimal:
    """Ask what it costs to send so many books."""
    time.sleep(settings.CARRIER_LATENCY)
    return Decimal("2.50") + copies * Decimal("0.75")


def is_open() -> bool:
    """Ask whether the carrier collects parcels today."""
    if is_broken("hang"):
        time.sleep(3600)
    return True
