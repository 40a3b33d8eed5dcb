"""Ready-made smoke tests of URLs, of this site and of others."""
