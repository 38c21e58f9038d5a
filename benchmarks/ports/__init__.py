"""Public ports of microGPT, judged: adapters of our own, and what parity says of what they drive."""
