"""The reference's laws as tests, for whoever writes an implementation.

    pytest --pyargs parity.suite --parity-subject my_port.py:make

| module | law |
| --- | --- |
| test_forward | logits and loss are the reference's |
| test_backward | so is every gradient |
| test_adam | Adam makes of the subject's own gradients what the reference's Adam makes of them |
| test_trajectories | several steps without a correction lead where the reference gets |
| test_fixed_cases | all of it at real sizes: both presets, real batches, long and empty documents, stored cases |
| test_causality | later tokens cannot change earlier logits |
| test_batches | a batch is the mean of its documents, whatever their order |
| test_state | load replaces everything; the same question gets the same answer |
| test_decoding | decoding with a cache is the forward pass, for a subject with decode |
| test_sampling | documents are drawn from the model's distribution, for a subject with sample |

A law about something that the subject does not expose is skipped, with the reason; one that rounding explains in the
subject's number format is kept. A factory may refuse a config with NotImplementedError: such cases are passed over.
Options: `pytest --help`, section parity. Needs microgpt-parity[test].
"""

MODULES = (
    "test_forward",
    "test_backward",
    "test_adam",
    "test_trajectories",
    "test_fixed_cases",
    "test_causality",
    "test_batches",
    "test_state",
    "test_decoding",
    "test_sampling",
)
"""In the order in which they run: what others build on first."""
