"""The pure-Python microGPT that defines *expected*; the standard library is all it needs."""
