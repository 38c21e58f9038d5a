"""Conformance vectors: cases with their answers as JSON, for ports that run no Python, and the judging of theirs."""
