"""The public list of books."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from catalog.services import search


def book_list(request: HttpRequest) -> HttpResponse:
    """List all books, or those that match ``?q=``."""
    words = request.GET.get("q", "")
    return render(request, "catalog/books.html", {"words": words, "books": search(words)})
