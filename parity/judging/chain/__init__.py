"""The chain of trust: what says what is expected where the scalar graph does not reach.

A rung of the ladder, all positions at once, is held to the reference at sizes that both reach, then and there. On
shadows its exact arithmetic then gives what is expected of a larger model, and its replicas the noise floor. The update
needs no such link: the reference's own Adam is elementwise, and takes the subject's own gradient at any size.
"""
