"""An app that makes the pages show what the example site alone would not."""
