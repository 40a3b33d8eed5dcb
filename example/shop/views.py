"""View of the start page."""

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from catalog.models import Book
from orders.models import Order
from shop import switches


def index(request: HttpRequest) -> HttpResponse:
    """Show statistics of the shop, links to its smoke tests, and the state of the switches."""
    try:
        broken, switch_error = switches.broken(), ""
    except ImproperlyConfigured as error:
        broken, switch_error = frozenset[str](), str(error)
    context = {
        "books": Book.objects.count(),
        "copies": Book.objects.aggregate(copies=Sum("stock"))["copies"] or 0,
        "orders": Order.objects.count(),
        "switches": [(name, text, name in broken) for name, text in switches.SWITCHES.items()],
        "switch_error": switch_error,
        "break_file": switches.break_file(),
    }
    return render(request, "index.html", context)
