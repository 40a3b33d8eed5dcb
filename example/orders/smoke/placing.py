"""The heart of the shop: customers can order, and the shelves agree."""

from catalog.models import Author, Book
from orders.models import Order
from orders.services import OutOfStockError, place_order
from smoketest import SmokeTest, tag

#: No customer has this address, so that nobody mistakes a smoke test's order for theirs.
CUSTOMER = "smoketest@shop.invalid"


@tag("orders")
class PlaceOrderTest(SmokeTest):
    """Orders are placed for real, and rolled back with all that setUp made."""

    timeout = 5
    maintainer = "sales"
    runbook_url = "https://wiki.example.com/runbooks/orders"

    def setUp(self) -> None:
        # A book of its own: the test does not depend on what happens to be in stock, and takes
        # no copy from under a customer's nose.
        author = Author.objects.create(name="Smoke Tester")
        self.book = Book.objects.create(
            title="Smoke", slug="smoketest", author=author, year=2000, price="9.50", stock=10
        )

    @tag("db", "readiness")
    def test_order_can_be_placed(self) -> None:
        """A customer can order, pays the right price, and the copies leave the stock."""
        order = place_order(CUSTOMER, self.book, quantity=2)
        self.assertEqual(
            order.total,
            19,
            f"Two books at 9.50 cost {order.total}: customers pay the wrong price. Roll back the "
            "release, then tell sales which orders to correct.",
        )
        self.assertEqual(
            self.book.stock,
            8,
            f"Of 10 copies {self.book.stock} are left after 2 were sold: the stock is going wrong "
            "with every order. Roll back the release, then have the warehouse count.",
        )

    def test_sold_out_book_is_refused(self) -> None:
        """Nobody can order more copies than there are."""
        with self.assertRaises(
            OutOfStockError,
            msg="More books can be sold than there are: roll back the release, then cancel the "
            "orders that cannot be met.",
        ):
            place_order(CUSTOMER, self.book, quantity=11)

    def test_no_order_of_a_smoke_test_stays(self) -> None:
        """Whatever the smoke tests ordered before was rolled back."""
        left = Order.objects.filter(email=CUSTOMER).count()
        self.assertEqual(
            left,
            0,
            f"{left} orders of smoke tests were committed: delete those of {CUSTOMER}, then look "
            "for code that commits past the transaction.",
        )
