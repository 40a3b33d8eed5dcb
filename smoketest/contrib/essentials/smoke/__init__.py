"""The tests; a class for each of the things that the site has several of."""
