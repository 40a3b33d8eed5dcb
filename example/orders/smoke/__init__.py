"""Smoke tests of the orders: a package, of which every submodule is found."""
