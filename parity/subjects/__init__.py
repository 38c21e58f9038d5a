"""Whatever is tested: its protocol, how one is found by its name, processes of its own, and adapters.

Nothing here knows what is expected.
"""
