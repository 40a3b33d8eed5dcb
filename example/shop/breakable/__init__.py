"""Django's SQLite, cache and storage backends, with a switch that breaks each of them."""
