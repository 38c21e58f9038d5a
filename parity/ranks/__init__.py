"""A training over several ranks, held to the training of one process: `parity check --ranks`.

    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    def make(dtype="float32", device="cpu"):
        torch.manual_seed(1)
        model = DistributedDataParallel(Model().to(device, getattr(torch, dtype)))
        own = [batch[dist.get_rank() :: dist.get_world_size()] for batch in batches()]
        return Training(model, torch.optim.AdamW(model.parameters()), loss, own)

The factory is called in every rank, with the process group made and torchrun's environment set, and deals the documents
out itself. `processes` runs the ranks, each a `worker`; `gathered` puts together what they answer; `single` is the
training of one process in exact arithmetic; `explanation` measures what a wrong gradient is made of.

No rank is run on shadows: DistributedDataParallel averages beneath torch's dispatch and holds on to the parameters that
shadows would take the place of, and so do DTensors. The ranks run as they are, in float64 where the factory takes a
dtype, and in their own format; exact arithmetic and the noise floor are the single training's.
"""
