"""The parcel service, which is not ours and may be slow or silent."""

from orders.carrier import is_open, quote
from smoketest import SmokeTest, options, tag


@tag("carrier")
class CarrierTest(SmokeTest):
    """Reads only: what other systems are told cannot be rolled back."""

    severity = "warning"
    databases = ()
    maintainer = "warehouse"
    runbook_url = "https://wiki.example.com/runbooks/carrier"

    @tag("slow")
    def test_carrier_quotes_a_price(self) -> None:
        """The carrier tells what a parcel costs."""
        price = quote(copies=2)
        self.assertGreater(
            price,
            0,
            f"The carrier sends two books for {price}: customers pay no postage. Switch to the "
            "fixed price list in the settings of the shop.",
        )

    @options(timeout=2, severity="critical")
    def test_carrier_is_open(self) -> None:
        """The carrier answers within two seconds and collects parcels."""
        self.assertTrue(
            is_open(),
            "The carrier is closed: tell the warehouse to hold today's parcels.",
        )
