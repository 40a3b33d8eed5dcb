"""URLconf of the shop. The smoke tests need only the line that includes ``smoketest.urls``."""

from django.urls import include, path

from archive.views import sales
from catalog.views import book_list
from orders.views import order
from shop.views import index

urlpatterns = [
    path("", index, name="index"),
    path("books/", book_list, name="books"),
    path("books/<slug:slug>/order/", order, name="order"),
    path("sales/", sales, name="sales"),
    path("smoketest/", include("smoketest.urls")),
]
