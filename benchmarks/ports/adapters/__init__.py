"""An adapter for each port: where it is, how it is driven, and what a person found in its code."""
