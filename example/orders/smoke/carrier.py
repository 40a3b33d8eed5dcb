"""Smoke tests of the parcel service, which is external and may be slow."""

from orders.carrier import is_open, quote
from smoketest import SmokeTest, options, tag


@tag("carrier")
class CarrierTest(SmokeTest):
    """Read-only tests: requests to other systems cannot be rolled back."""

    severity = "warning"
    databases = ()
    maintainer = "warehouse"
    runbook_url = "https://wiki.example.com/runbooks/carrier"

    @tag("slow")
    def test_carrier_quotes_a_price(self) -> None:
        """The carrier returns the price of a parcel."""
        price = quote(copies=2)
        self.assertGreater(
            price,
            0,
            f"The carrier's price for two books is {price}, so customers pay no postage. Switch to "
            "the fixed price list in the settings of the shop.",
        )

    @options(timeout=2, severity="critical")
    def test_carrier_is_open(self) -> None:
        """The carrier responds within two seconds and collects parcels."""
        self.assertTrue(
            is_open(),
            "The carrier is closed. Tell the warehouse to hold today's parcels.",
        )
