"""Cheap signals of rows and the rules over them."""
