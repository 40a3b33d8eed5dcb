"""Smoke tests of the catalog: public pages, search and stock."""

from django.test import RequestFactory
from django.urls import reverse

from catalog.models import Book
from catalog.services import books_to_reorder, search
from catalog.views import book_list
from smoketest import SmokeTest, options, tag


class CatalogTest(SmokeTest):
    """Read-only tests: the database refuses writes."""

    read_only = True
    databases = {"default"}
    maintainer = "web"
    runbook_url = "https://wiki.example.com/runbooks/catalog"

    @tag("db", "readiness")
    @options(timeout=2)
    def test_there_are_books(self) -> None:
        """The database answers and contains books."""
        self.assertTrue(
            Book.objects.exists(),
            "The catalog is empty: check that the site uses the right database, then run "
            "`manage.py prepare_shop`.",
        )

    @tag("pages")
    def test_list_page_shows_the_books(self) -> None:
        """The public list of books renders and shows the first book."""
        book = Book.objects.first()
        if book is None:
            self.skipTest("there are no books to show")
        response = book_list(RequestFactory().get(reverse("books")))
        self.assertIn(
            book.title,
            response.content.decode(),
            f"{reverse('books')} does not show {book.title!r}: visitors see no books. Roll back "
            "the last change to catalog/books.html.",
        )

    @tag("search")
    @options(slow_after=1.0)
    def test_search_finds_a_title(self) -> None:
        """A search for the title of a book finds it within a second."""
        book = Book.objects.latest("pk")
        self.assertIn(
            book,
            search(book.title),
            f"The search does not find {book.title!r}. Roll back the last change to the search.",
        )

    @tag("search")
    async def test_search_finds_an_author(self) -> None:
        """A search for an author finds all of their books (an async test)."""
        book = await Book.objects.select_related("author").alatest("pk")
        found = {other.pk async for other in search(book.author.name)}
        missing = [other.title async for other in book.author.books.exclude(pk__in=found)]
        self.assertEqual(
            missing,
            [],
            f"The search for {book.author} does not find {', '.join(missing)}. Roll back the last "
            "change to the search.",
        )


class ReorderTest(SmokeTest):
    """Tests with severity "warning" are reported, but do not fail the run or page anyone."""

    severity = "warning"
    read_only = True
    databases = {"default"}
    maintainer = "purchasing"

    @tag("stock")
    def test_no_book_is_nearly_sold_out(self) -> None:
        """There are enough copies of every book."""
        titles = [book.title for book in books_to_reorder()]
        self.assertEqual(
            titles,
            [],
            f"{len(titles)} books are nearly sold out: order more of {', '.join(titles[:3])}"
            f"{' and others' if len(titles) > 3 else ''}.",
        )
