"""Any PyTorch training step as a subject: a model, its optimizer, loss and batches, held to its own exact arithmetic.

    from parity.training import Training

    def make(dtype="float32", device="cpu"):
        model = GPT2LMHeadModel(config).to(device, getattr(torch, dtype))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
        return Training(model, optimizer, loss=lambda model, batch: model(**batch).loss, batches=batches,
                        clip_grad_norm=1.0, autocast="bfloat16")

`parity check training.py:make` then runs it as it is, on shadows in exact arithmetic, and on replicas that are moved by
the rounding of every operation (`parity.oracle.shadows`), and compares loss, outputs, gradients, the optimizer's state,
parameters and buffers, element by element.
"""

from parity.training.training import Training

__all__ = ["Training"]
