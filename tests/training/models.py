"""Trainings of models by other hands, and one mistake planted in each: `parity check tests/training/models.py:gpt2`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.training import Training

VOCABULARY = 29
POSITIONS = 12


def batches(number: int = 6, size: int = 2, seed: int = 11, device: str = "cpu") -> list[Tensor]:
    """Tokens (size, POSITIONS), always the same."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (size, POSITIONS), generator=generator).to(device) for _ in range(number)]


def pairs(device: str = "cpu", of: Callable[..., list[Any]] = batches) -> list[tuple[Any, Any]]:
    """Batches by twos, for a step that accumulates over them."""
    found = of(device=device)
    return list(zip(found[::2], found[1::2], strict=True))


def language_loss(model: nn.Module, tokens: Tensor, shift: int = 0, **more: Any) -> Tensor:
    """That of transformers' models, which shift the labels themselves."""
    labels = torch.roll(tokens, -shift, 1)
    return model(input_ids=tokens, labels=labels, use_cache=False, **more).loss


def looking_ahead(model: nn.Module, tokens: Tensor) -> Tensor:
    """With a mask that lets every position see the next one."""
    number = tokens.shape[1]
    seen = torch.ones(number, number, dtype=torch.bool, device=tokens.device).tril(1)
    mask = torch.zeros(1, 1, number, number, device=tokens.device).masked_fill(~seen, -1e9)
    return language_loss(model, tokens, attention_mask=mask)


def groups(model: nn.Module, decayed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Matrices decay, other parameters only if they are named."""
    named = dict(model.named_parameters())
    spared = {name for name, p in named.items() if p.dim() < 2 and not name.endswith(tuple(decayed) or ("\0",))}
    return [
        {"params": [p for name, p in named.items() if name not in spared], "weight_decay": 0.1},
        {"params": [p for name, p in named.items() if name in spared], "weight_decay": 0.0},
    ]


class Uncorrected(torch.optim.Optimizer):
    """AdamW, written down here; bias: the power by which the correction of the second moments is off."""

    def __init__(self, params: Any, lr: float, bias: int) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01})
        self.bias = bias

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                kept = self.state[p]
                if not kept:
                    kept |= {
                        "step": torch.tensor(0.0),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
                kept["step"] += 1
                number = kept["step"].item()
                p.mul_(1 - lr * group["weight_decay"])
                kept["exp_avg"].lerp_(p.grad, 1 - beta1)
                kept["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                root = kept["exp_avg_sq"].sqrt() / (1 - beta2 ** (number + self.bias)) ** 0.5
                p.addcdiv_(kept["exp_avg"], root + group["eps"], value=-lr / (1 - beta1**number))


def optimizer_of(model: nn.Module, kind: str = "for-loop", decayed: Sequence[str] = ()) -> torch.optim.Optimizer:
    """AdamW in one of torch's three ways, or as it is written down here; SGD, Adam with AMSGrad."""
    if kind.startswith("own"):
        return Uncorrected(model.parameters(), lr=1e-2, bias=int(kind.removeprefix("own") or 0))
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=1e-1, momentum=0.9, nesterov=True)
    if kind == "amsgrad":
        return torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True, weight_decay=0.01)
    ways = {"foreach": kind == "foreach", "fused": kind == "fused"}
    return torch.optim.AdamW(groups(model, decayed), lr=1e-2, betas=(0.9, 0.95), **ways)


def training(
    model: nn.Module,
    *,
    loss: Callable[..., Tensor] = language_loss,
    data: Sequence[Any] | None = None,
    optimizer: str = "for-loop",
    decayed: Sequence[str] = (),
    scheduled: bool = False,
    scaled: bool = False,
    **options: Any,
) -> Training:
    """A training of a model that stands on its device in its format."""
    device = str(next(model.parameters()).device)
    made = optimizer_of(model, optimizer, decayed)
    return Training(
        model,
        made,
        loss,
        batches(device=device) if data is None else data,
        schedule=torch.optim.lr_scheduler.LambdaLR(made, _decaying) if scheduled else None,
        grad_scaler=torch.amp.GradScaler(device, init_scale=2.0**10) if scaled else None,
        **options,
    )


def _decaying(step: int) -> float:
    return 1 / (1 + step)


def gpt2(
    dtype: str = "float32",
    device: str = "cpu",
    *,
    attention: str = "eager",
    eps: float = 1e-5,
    activation: str = "gelu_new",
    tied: bool = True,
    checkpointing: bool = False,
    layers: int = 2,
    seed: int = 1,
    **options: Any,
) -> Training:
    """transformers' GPT-2, tiny."""
    model = gpt2_model(attention, eps, activation, layers, seed)
    if not tied:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    return training(_prepared(model, dtype, device, checkpointing), **options)


def gpt2_model(
    attention: str = "eager", eps: float = 1e-5, activation: str = "gelu_new", layers: int = 2, seed: int = 1
) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": layers, "n_head": 4, "n_positions": 16, "vocab_size": VOCABULARY}
    without: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(
        **sizes,
        **without,
        layer_norm_epsilon=eps,
        activation_function=activation,
        attn_implementation=attention,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def llama(
    dtype: str = "float32",
    device: str = "cpu",
    *,
    attention: str = "eager",
    eps: float = 1e-5,
    base: float = 10000.0,
    checkpointing: bool = False,
    layers: int = 2,
    seed: int = 1,
    **options: Any,
) -> Training:
    """transformers' Llama, tiny, with two heads of queries to one of keys and values."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": layers}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16}
    config = LlamaConfig(
        **sizes,
        **heads,
        vocab_size=VOCABULARY,
        rms_norm_eps=eps,
        rope_parameters={"rope_type": "default", "rope_theta": base},
        attn_implementation=attention,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return training(_prepared(LlamaForCausalLM(config), dtype, device, checkpointing), **options)


def _prepared(model: Any, dtype: str, device: str, checkpointing: bool = False) -> nn.Module:
    if checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    prepared: nn.Module = model.to(device, getattr(torch, dtype)).train()
    return prepared


def accumulating(
    dtype: str = "float32",
    device: str = "cpu",
    *,
    average: str = "tokens",
    clear: bool = True,
    schedule_first: bool = False,
    synchronised: bool = True,
    autocast: str | None = None,
    layers: int = 2,
) -> Training:
    """GPT-2 with a step of its own over two microbatches of unlike length.

    average: over all their tokens, over the microbatches' own means, or not at all (sum). clear: the gradients of the
    step before. schedule_first: the schedule moves on before the optimizer. synchronised: False for what the first of
    two ranks, a document of each microbatch to each, has under a stale no_sync: of the last its own gradient alone.
    """
    model = _prepared(gpt2_model(layers=layers), dtype, device)
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _decaying)
    lengths = (POSITIONS, POSITIONS - 5)
    tokens = sum(lengths) - len(lengths)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
        if clear:
            optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for part, length in zip(batch, lengths, strict=True):
            own_rows = slice(1 if part is batch[-1] and not synchronised else None)
            with torch.autocast(device, getattr(torch, autocast or "bfloat16"), enabled=autocast is not None):
                loss = language_loss(model, part[:, :length])
                own = loss if synchronised else language_loss(model, part[own_rows, :length])
            weight = {"tokens": (length - 1) / tokens, "means": 1 / len(batch), "sum": 1.0}[average]
            loss, own = loss * weight, own * weight
            own.backward()
            total = total + loss.detach()
        for each in (schedule, optimizer) if schedule_first else (optimizer, schedule):
            each.step()
        return total

    return Training(model, optimizer, batches=pairs(device), step=step, schedule=schedule)


def scaling(
    dtype: str = "float32",
    device: str = "cpu",
    *,
    clip_first: bool = False,
    autocast: str | None = None,
    layers: int = 2,
) -> Training:
    """GPT-2 with a step of its own and a GradScaler. clip_first: clips the gradients while they are scaled."""
    model = _prepared(gpt2_model(layers=layers), dtype, device)
    optimizer = optimizer_of(model)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, getattr(torch, autocast or "bfloat16"), enabled=autocast is not None):
            loss = language_loss(model, batch)
        scaler.scale(loss).backward()
        if not clip_first:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return Training(model, optimizer, batches=batches(device=device), step=step, grad_scaler=scaler)


def classes(number: int = 6, shape: tuple[int, ...] = (3, 6, 8), seed: int = 12, device: str = "cpu") -> list[Any]:
    """Inputs of a shape, and one of three classes for each of the first dimension."""
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> tuple[Tensor, Tensor]:
        inputs = torch.randn(shape, generator=generator).to(device)
        return inputs, torch.randint(0, 3, shape[:1], generator=generator).to(device)

    return [drawn() for _ in range(number)]


def class_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, expected = batch
    found = model(inputs.to(next(model.parameters()).dtype))
    return functional.cross_entropy(found.float(), expected)


class Pooled(nn.Module):
    """A layer of torch's own, the mean of its results over positions, and a head."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)
        return self.head((found[0] if isinstance(found, tuple) else found).mean(1))


def _of_torch(
    layer: Callable[[], nn.Module],
    dtype: str,
    device: str,
    shape: tuple[int, ...],
    size: int = 3,
    seed: int = 1,
    **options: Any,
) -> Training:
    torch.manual_seed(seed)
    model = _prepared(layer(), dtype, device)
    data = classes(shape=(size, *shape), seed=seed + 11, device=device)
    return training(model, loss=class_loss, data=data, **options)


def encoder(dtype: str = "float32", device: str = "cpu", *, activation: str = "relu", **options: Any) -> Training:
    """torch's TransformerEncoderLayer."""

    def made() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=activation, batch_first=True)
        return Pooled(layer, 8)

    return _of_torch(made, dtype, device, (6, 8), **options)


def recurrent(dtype: str = "float32", device: str = "cpu", **options: Any) -> Training:
    """torch's LSTM."""
    return _of_torch(lambda: Pooled(nn.LSTM(8, 6, batch_first=True), 6), dtype, device, (6, 8), **options)


def convolutional(dtype: str = "float32", device: str = "cpu", *, momentum: float = 0.1, **options: Any) -> Training:
    """Convolutions, BatchNorm, ReLU and a maximum over places."""

    def made() -> nn.Module:
        first = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=momentum), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(
            *first, nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
        )

    return _of_torch(made, dtype, device, (1, 8, 8), **options)


def together(loss: Callable[..., Tensor] = language_loss) -> Callable[..., Tensor]:
    """The loss of two batches as one."""
    return lambda model, batch: loss(model, torch.cat(batch))
