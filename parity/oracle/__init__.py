"""What is expected, how far rounding alone may take a right answer from it, and what is true.

A run of the reference is recorded (`graph`), compiled (`program`) and replayed, exactly (`replay`) and with noise
(`noisy_replay`); `truth` encloses the exact result.
"""
