"""Django's SQLite, cache and storage backends, each with a switch that breaks it."""
