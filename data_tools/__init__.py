"""Records and everything that reads, judges and writes them. No torch anywhere in this package."""
