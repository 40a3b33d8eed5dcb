"""Place orders and write invoices."""

from functools import partial

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F

from catalog.models import Book
from orders.models import Order
from shop.switches import is_broken


class OutOfStockError(Exception):
    """The stock is lower than the ordered quantity."""


@transaction.atomic(durable=True)
def place_order(email: str, book: Book, quantity: int = 1) -> Order:
    """Create an order for copies of a book; its invoice is written after the commit."""
    take_from_stock(book, quantity)
    order = Order(email=email)
    if is_broken("orders"):
        # Simulates a release that does not set a required column.
        order.email = None  # type: ignore[assignment]
    order.save()
    order.lines.create(book=book, quantity=quantity, price=book.price)
    # Robust: the order succeeds even if the disk is full.
    transaction.on_commit(partial(save_invoice, order), robust=True)
    return order


def take_from_stock(book: Book, quantity: int) -> None:
    """Reduce the stock in a single statement, so that no copy is sold twice."""
    copies = 2 * quantity if is_broken("stock") else quantity
    in_stock = Book.objects.filter(pk=book.pk, stock__gte=quantity)
    if not in_stock.update(stock=F("stock") - copies):
        msg = f"Fewer than {quantity} copies of {book} are left."
        raise OutOfStockError(msg)
    book.refresh_from_db(fields=["stock"])


def invoice_text(order: Order) -> str:
    """Return the invoice of an order."""
    lines = [f"{line.quantity} x {line.book.title}: {line.price}" for line in order.lines.all()]
    return "\n".join([f"Invoice {order.pk} for {order.email}", *lines, f"Total: {order.total}", ""])


def save_invoice(order: Order) -> str:
    """Write the invoice to the media storage and return its name."""
    return default_storage.save(f"invoices/{order.pk}.txt", ContentFile(invoice_text(order)))
