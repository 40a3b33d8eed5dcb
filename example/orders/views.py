"""View that orders a book."""

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from catalog.models import Book
from orders.services import OutOfStockError, place_order


@require_POST
def order(request: HttpRequest, slug: str) -> HttpResponse:
    """Order one copy of a book."""
    book = get_object_or_404(Book, slug=slug)
    email = request.POST.get("email") or "visitor@example.com"
    # Ignore double clicks.
    if not cache.add(f"ordered:{email}:{slug}", value=True, timeout=2):
        return redirect("index")
    try:
        place_order(email, book)
    except OutOfStockError as error:
        return render(request, "sold_out.html", {"error": error}, status=409)
    return redirect("index")
