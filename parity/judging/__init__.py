"""One question and its answer: z, what explains it, the verdict, and the check that asks many of them."""
