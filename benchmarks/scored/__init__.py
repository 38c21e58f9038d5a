"""Wrong implementations by another hand than the catalogue's: the examples in NumPy and C with mistakes put in."""
