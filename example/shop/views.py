"""The start page."""

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from catalog.models import Book
from orders.models import Order
from shop import switches


def index(request: HttpRequest) -> HttpResponse:
    """Show the shop in numbers, its smoke tests, and what is broken on purpose."""
    try:
        broken, mistake = switches.broken(), ""
    except ImproperlyConfigured as error:
        broken, mistake = frozenset[str](), str(error)
    context = {
        "books": Book.objects.count(),
        "copies": Book.objects.aggregate(copies=Sum("stock"))["copies"] or 0,
        "orders": Order.objects.count(),
        "switches": [(name, text, name in broken) for name, text in switches.SWITCHES.items()],
        "mistake": mistake,
        "break_file": switches.break_file(),
    }
    return render(request, "index.html", context)
