"""PyTorch versions of the reference: the line-for-line twin, and a file for every technique that makes it faster."""
