"""Queries on the catalog."""

import time

from django.conf import settings
from django.db.models import Q, QuerySet

from catalog.models import Book
from shop.switches import is_broken

#: Books with fewer copies than this must be reordered from the publisher.
REORDER_LEVEL = 3


def search(words: str) -> QuerySet[Book]:
    """Return the books whose title or author contains all of the words."""
    if is_broken("slow"):
        time.sleep(settings.EXAMPLE_SLOW_SECONDS)
    books = Book.objects.select_related("author")
    for word in words.split():
        books = books.filter(Q(title__icontains=word) | Q(author__name__icontains=word))
    return books


def books_to_reorder() -> QuerySet[Book]:
    """Return the books with a stock below the reorder level."""
    level = REORDER_LEVEL * 1000 if is_broken("warning") else REORDER_LEVEL
    return Book.objects.filter(stock__lt=level)
