"""What is on disk is whole, or known to be torn: files put in place at once, journals, ledgers."""
