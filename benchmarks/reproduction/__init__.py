"""A small reproduction of three papers on thirty photographs; docs/reproduction.md is its page."""
