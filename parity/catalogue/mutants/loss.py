"""Mistakes in the loss, in the weights of what is averaged, and in which tokens of which documents count."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_BATCH_MEAN = "loss = (1 / len(batch)) * sum(loss for loss, _ in results)"
_TOKEN_MEAN = """tokens = sum(len(logits) for _, logits in results)
    loss = (1 / tokens) * sum(len(logits) * loss for loss, logits in results)"""
_NOT_EMPTY = """counted = [loss for tokens, (loss, _) in zip(batch, results) if len(tokens) > 2] or [results[0][0]]
    loss = (1 / len(counted)) * sum(counted)"""
_ONCE = """counted = {tuple(tokens): loss for tokens, (loss, _) in zip(batch, results)}
    loss = (1 / len(counted)) * sum(counted.values())"""
_SUMMED_GRADIENT = f"{_BATCH_MEAN}\n    loss = Value(loss.data, (loss,), (float(len(batch)),))"
_MEAN = "(1 / n) * sum(losses)"
_NLL = "-probs[tokens[position + 1]].log()"
_CLAMPED = "-(p if (p := probs[tokens[position + 1]]).data > 1e-7 else Value(1e-7)).log()"
_LENGTH = "n = min(config.block_size, len(tokens) - 1)"
_APPENDED = 'losses.append(tap("loss", -probs[tokens[position + 1]].log()))'


def _gradient_of(document: int) -> tuple[tuple[str, str], ...]:
    """Edits that let the gradient of one document through; the loss stays the mean."""
    only = f"sum(loss if loss is results[{document}][0] else loss.data for loss, _ in results)"
    return ((_BATCH_MEAN, f"loss = (1 / len(batch)) * {only}"),)


def _gradient_weighted(weight: str) -> tuple[tuple[str, str], ...]:
    """Edits that multiply the gradient of a document's loss, its number in the batch given; the loss stays the mean."""
    weighted = f"sum(({weight}) * loss for number, (loss, logits) in enumerate(results))"
    return ((_BATCH_MEAN, f"{_BATCH_MEAN}\n    loss = Value(loss.data, ({weighted},), (1.0,))"),)


LOSS = of_stage(
    "loss",
    Mutant(
        "targets_not_shifted",
        "Every position predicts its own token instead of the next one: targets are not shifted.",
        (("probs[tokens[position + 1]]", "probs[tokens[position]]"),),
        in_vectors=True,
        sources=("huggingface/transformers#27517", "Project-MONAI/GenerativeModels#314"),
        place="site loss",
    ),
    Mutant(
        "targets_shifted_twice",
        "Every position predicts the token after the next one: targets are shifted twice.",
        (("probs[tokens[position + 1]]", "probs[tokens[min(position + 2, len(tokens) - 1)]]"),),
        sources=("huggingface/transformers#47395", "huggingface/transformers#37830", "huggingface/transformers#46898"),
        place="site loss",
    ),
    Mutant(
        "last_target_ignored",
        "The end of a document is not predicted: BOS as a target is ignored.",
        (
            (_APPENDED, f"if position + 2 < len(tokens):\n            {_APPENDED}"),
            (_MEAN, "(1 / max(1, len(losses))) * sum(losses, 0 * logits[0][0])"),
        ),
        sources=("huggingface/trl#6357", "mlabonne/llm-course#33"),
        place="site loss",
    ),
    Mutant(
        "log_with_eps",
        "The loss is the logarithm of the probability plus 1e-12.",
        ((_NLL, "-(probs[tokens[position + 1]] + 1e-12).log()"),),
        sources=("port: dewmal/microgpt-rusty", "port: thdtjsdn/microgpt.js"),
        place="site loss",
    ),
    Mutant(
        "probability_clamped",
        "The loss takes no probability for less than 1e-7.",
        ((_NLL, _CLAMPED),),
        sources=("keras-team/keras#17634", "FluxML/Flux.jl#437", "port: MeKo-Christian/go-microgpt"),
        place="site loss",
    ),
    Mutant(
        "loss_in_bits",
        "The logarithm of the loss is to base 2.",
        ((_NLL, f"{_NLL} / math.log(2)"),),
        sources=("srendle/libfm#21", "hasktorch/hasktorch#799"),
        place="site loss",
    ),
    Mutant(
        "loss_of_last_position",
        "A document's loss is that of its last position alone.",
        ((_MEAN, "losses[-1]"),),
        sources=("PAIR-code/tiny-transformers#17",),
        place="loss",
    ),
    Mutant(
        "loss_summed_over_positions",
        "A document's loss is the sum over its positions instead of their mean.",
        ((_MEAN, "sum(losses)"),),
        in_vectors=True,
        sources=("vid-koci/bert-commonsense#1",),
        place="loss",
    ),
    Mutant(
        "loss_over_block_size",
        "A document's loss is divided by block_size instead of by the number of its positions.",
        (("(1 / n)", "(1 / config.block_size)"),),
        sources=("d2l-ai/d2l-en#2707",),
        place="loss",
    ),
    Mutant(
        "loss_over_length",
        "A document's loss is divided by its number of tokens, BOS at both ends included.",
        (("(1 / n)", "(1 / len(tokens))"),),
        sources=("huggingface/transformers#46204",),
        place="loss",
    ),
    Mutant(
        "loss_over_vocabulary",
        "A document's loss is divided by the size of the vocabulary, too, as a mean over all probabilities is.",
        (("(1 / n)", "(1 / n / config.vocab_size)"),),
        sources=("ooples/AiDotNet#1191",),
        place="loss",
    ),
    Mutant(
        "loss_summed_over_batch",
        "The batch's loss is the sum over its documents instead of their mean.",
        (("(1 / len(batch)) * sum(", "sum("),),
        in_vectors=True,
        sources=("jax-ml/jax#3113", "ai-safety-foundation/sparse_autoencoder#63"),
        place="loss",
    ),
    Mutant(
        "loss_mean_over_tokens",
        "The batch's loss is the mean over all of its positions instead of the mean of its documents' means.",
        ((_BATCH_MEAN, _TOKEN_MEAN),),
        in_vectors=True,
        sources=("verl-project/verl#906", "port: enjector/microgpt-c"),
        place="loss",
    ),
    Mutant(
        "gradient_summed_over_batch",
        "Gradients are summed over the documents of a batch; the loss is their mean.",
        ((_BATCH_MEAN, _SUMMED_GRADIENT),),
        sources=("karpathy/nanoGPT#168", "NVIDIA-NeMo/RL#84", "openai/guided-diffusion#111"),
        place="grad lm_head",
    ),
    Mutant(
        "gradient_summed_over_tokens",
        "Gradients are summed over all positions of a batch: the loss is averaged after backward.",
        _gradient_weighted("len(logits)"),
        sources=("pytorch/torchtitan#2972", "radixark/miles#3231"),
        place="grad lm_head",
    ),
    Mutant(
        "gradient_weighted_as_first",
        "The gradient of every position weighs as much as that of the first document's.",
        _gradient_weighted("len(logits) / len(results[0][1]) / len(batch)"),
        sources=("linkedin/Liger-Kernel#1298",),
        place="grad lm_head",
    ),
    Mutant(
        "gradient_averaged_repeatedly",
        "What has been accumulated is divided by the number of documents after each of them, not once.",
        _gradient_weighted("len(batch) ** float(number - len(batch))"),
        sources=("pytorch/torchtitan#1733", "pytorch/torchtitan#1732"),
        place="grad lm_head",
    ),
    Mutant(
        "last_gradient_not_averaged",
        "The gradient of the last document of a batch is added after the others have been averaged.",
        _gradient_weighted("1 / len(batch) if number + 1 < len(batch) else 1.0"),
        sources=("deepspeedai/DeepSpeed#7985",),
        place="grad lm_head",
    ),
    Mutant(
        "gradient_of_first_document",
        "Only the first document of a batch gives a gradient.",
        _gradient_of(0),
        place="grad lm_head",
    ),
    Mutant(
        "gradient_of_last_document",
        "Only the last document of a batch gives a gradient: those before it are overwritten.",
        _gradient_of(-1),
        sources=("pytorch/torchtitan#3575", "bytetriper/RAE#67"),
        place="grad lm_head",
    ),
)

DATA = of_stage(
    "data",
    Mutant(
        "last_block",
        "Of a document longer than the block the last positions are used instead of the first ones.",
        ((_LENGTH, f"{_LENGTH}\n    tokens = tokens[-n - 1 :]"),),
        in_vectors=True,
        sources=("cohere-ai/notebooks#32",),
        place="site embedding",
    ),
    Mutant(
        "block_one_short",
        "Of a document that fills the block, or is longer, the last position of the block is not used.",
        ((_LENGTH, "n = max(1, min(config.block_size, len(tokens)) - 1)"),),
        sources=("Modalities/modalities#156", "port: MeKo-Christian/go-microgpt"),
        place="shape of logits",
    ),
    Mutant(
        "long_document_wrapped",
        "All positions of a document longer than the block are used; positions start over at the end of the block.",
        ((_LENGTH, "n = len(tokens) - 1"), ('params["wpe"][position]', 'params["wpe"][position % config.block_size]')),
        sources=("port: mplekh/rust-microgpt",),
        place="shape of logits",
    ),
    Mutant(
        "long_document_skipped",
        "Documents longer than the block are left out of the loss.",
        (
            (
                _BATCH_MEAN,
                _NOT_EMPTY.replace("len(tokens) > 2", "len(tokens) - 1 <= config.block_size"),
            ),
        ),
        sources=("AI-Hypercomputer/maxtext#274", "facebookresearch/fairseq#1103"),
        place="loss",
    ),
    Mutant(
        "empty_document_skipped",
        "Documents without a character are left out of the loss.",
        ((_BATCH_MEAN, _NOT_EMPTY),),
        place="loss",
    ),
    Mutant(
        "repeated_document_dropped",
        "A document that a batch holds twice counts once.",
        ((_BATCH_MEAN, _ONCE),),
        place="loss",
    ),
    Mutant(
        "first_document_only",
        "Only the first document of a batch is used.",
        ((_BATCH_MEAN, "loss = results[0][0]"),),
        sources=("google-deepmind/gemma#48",),
        place="loss",
    ),
)
