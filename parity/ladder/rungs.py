"""The table of rungs: which technique is which subject, and on which one each builds."""

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from parity.errors import UsageError
from parity.words import did_you_mean


@dataclass(frozen=True)
class Rung:
    """One technique: a subject, in a number format of its own if dtype says so.

    below: the rung that it builds on and is compared with in speed: the one whose class it extends, or which has the
    same class in another format; None for what extends no rung. cuda: it runs on a CUDA device; compiled: torch.compile
    makes C++ of it. It is skipped where the device or the compiler is missing. static: a graph is compiled for every
    batch size, of which none is timed that is larger than what is checked. oracle: where expected comes from. title: in
    place of the one that the module's docstring begins with, `Technique: what changed.` single: of a training over
    so many ranks, the training of one process that it is held to; it is not timed.
    """

    name: str
    factory: str
    dtype: str | None = None
    below: str | None = None
    cuda: bool = False
    compiled: bool = False
    static: bool = False
    oracle: str = "replay"
    title: str | None = None
    single: str | None = None
    ranks: int = 2

    @property
    def words(self) -> tuple[str, str]:
        """The technique, and what changed in one sentence."""
        module = self.factory.partition(":")[0]
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        # Read, not imported: importing would load torch for nothing.
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        technique, _, changed = (self.title or docstring.partition("\n\n")[0]).partition(": ")
        return technique, " ".join(changed.split())


RUNGS = (
    Rung("twin", "torch_twin.microgpt:make", title="Line-for-line twin: tensors and autograd in place of Value."),
    # It extends no class, but uses the twin's functions for all that it does not replace.
    Rung("positions", "torch_twin.positions:make", below="twin"),
    Rung("padded", "torch_twin.padded:make", below="positions"),
    Rung("packed", "torch_twin.packed:make", below="padded"),
    Rung("fused_attention", "torch_twin.fused_attention:make", below="packed"),
    Rung("foreach_adam", "torch_twin.foreach_adam:make", below="fused_attention"),
    Rung("fused_adam", "torch_twin.fused_adam:make", below="foreach_adam"),
    Rung("compiled", "torch_twin.compiled:make", below="padded", compiled=True, static=True),
    Rung("whole_step", "torch_twin.whole_step:make", below="compiled", compiled=True, static=True),
    Rung(
        "float32",
        "torch_twin.whole_step:make",
        "float32",
        below="whole_step",
        compiled=True,
        static=True,
        title="Float32: half the bits.",
    ),
    # Those on the whole step in float32 compute in it, too, or keep their weights in it: they are compared with that.
    Rung("documents_last", "torch_twin.documents_last:make", "float32", below="float32", compiled=True, static=True),
    Rung("chunks", "torch_twin.chunks:make", "float32", below="documents_last", compiled=True),
    Rung("batched_step", "torch_twin.batched_step:make", "float32", below="chunks", compiled=True),
    Rung("bfloat16", "torch_twin.bfloat16:make", below="float32", compiled=True, static=True),
    Rung("cuda", "torch_twin.cuda:make", "float32", below="float32", cuda=True, static=True),
    Rung("cuda_graph", "torch_twin.cuda_graph:make", "float32", below="cuda", cuda=True, static=True),
    Rung("checkpointing", "torch_twin.checkpointing:make", below="fused_adam"),
    Rung("accumulation", "torch_twin.accumulation:make", below="fused_adam"),
    Rung("data_parallel", "torch_twin.data_parallel:make", below="fused_adam"),
    Rung("decoding", "torch_twin.decoding:make", below="padded"),
    Rung("scalar", "parity.scalar:make", oracle="python"),  # it is the replay itself
    # Trainings over ranks, of which microGPT's own is above: the model is larger than microGPT, with what these split.
    *(
        Rung(name, f"parity.ladder.parallel.{name}:make", single=f"parity.ladder.parallel.{single}", ranks=ranks)
        for name, single, ranks in (
            ("uneven_data_parallel", "single:make", 2),
            ("no_sync", "single:accumulated", 2),
            ("bfloat16_reduction", "single:make", 2),
            ("zero", "single:make", 2),
            ("fully_sharded", "single:make", 2),
            ("tensor_parallel", "single:unclipped", 2),
            ("sharded_clipping", "single:make", 2),
            ("sequence_parallel", "single:unclipped", 2),
            ("pipeline", "pipeline:of_one_process", 2),
            ("sharded_tensor_parallel", "single:unclipped", 4),
        )
    ),
)


def chosen(names: str | None) -> list[Rung]:
    """The rungs with these names, separated by commas (None: all), in the order of the ladder; UsageError otherwise."""
    rungs = RUNGS
    if names is None:
        return list(rungs)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in {rung.name for rung in rungs}]
    if unknown or not wanted:
        known = [rung.name for rung in rungs]
        near = did_you_mean(unknown[0], known) if unknown else ""
        raise UsageError(f"There is no rung {', '.join(unknown) or repr(names)}{near}; there are {', '.join(known)}.")
    return [rung for rung in rungs if rung.name in wanted]
