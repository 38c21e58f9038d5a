"""A subject made of ranks: the processes (`processes`), and what leads them as one subject (`subject`)."""
