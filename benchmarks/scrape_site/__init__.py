"""The site that `benchmarks/scrape.py` measures."""
