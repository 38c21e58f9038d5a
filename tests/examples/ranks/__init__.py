"""A training of one process (`single`), and the same over several ranks by one technique a file."""
