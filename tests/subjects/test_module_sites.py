"""Modules within a module show the reference's sites, and a mistake in one of them is placed there."""

import io
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from torch import nn
from torch.utils.checkpoint import checkpoint

from parity import Verdict, check
from parity.cli.check_markdown import check_markdown
from parity.cli.check_report import check_report
from parity.errors import UsageError
from parity.modules import Arranged, ModuleSubject, stacked
from parity.subjects.module_sites import site_widths
from reference.microgpt import Value, batch_loss
from tests.subjects.batch_modules import OnlyOne, unlike_documents
from tests.subjects.torch_modules import GPT2, GPT2_NAMES, GPT2_SITES, NANO, QKV, NanoGPT
from torch_twin.microgpt import Twin
from torch_twin.tools.threads import threads

NANO_SITES = {
    "h.{i}.attn.proj.input": "layer{i}.attn.heads",
    "h.{i}.mlp.up": "layer{i}.mlp.pre",
    "lm_head": "logits",
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from several threads, and lose much where the cores are busy."""
    with threads(1):
        yield


def gpt2(change=lambda module: None, sites=GPT2_SITES, **options):
    def make(config, hyper, dtype="float64"):
        module = GPT2(config)
        change(module)
        frozen = ("*.bias", "*ln*")
        return ModuleSubject(module, config, hyper, GPT2_NAMES, frozen=frozen, sites=sites, dtype=dtype, **options)

    return make


def nano(kind=NanoGPT, sites=NANO_SITES, names=NANO, wrap=lambda module: module, **options):
    def make(config, hyper, dtype="float64"):
        return ModuleSubject(wrap(kind(config, **options)), config, hyper, names, sites=sites, dtype=dtype)

    return make


def refusal(sites) -> str:
    with pytest.raises(UsageError) as caught:
        gpt2(sites=sites)(unlike_documents().config, unlike_documents().hyper)
    return str(caught.value)


def test_sites_that_a_module_can_show_are_those_of_the_reference():
    sizes = {}

    def tap(site, value):
        sizes[site] = len(value) if isinstance(value, list) else 0
        return value

    params = {name: [[Value(x) for x in row] for row in rows] for name, rows in unlike_documents().state.params.items()}
    batch_loss(unlike_documents().documents[:1], params, unlike_documents().config, tap)
    others = {"probs", "loss", *(f"layer{i}.attn.{part}" for i in range(2) for part in ("scores", "weights"))}
    assert {site: size for site, size in sizes.items() if site not in others} == site_widths(unlike_documents().config)
    assert others <= set(sizes)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_all_sites_and_their_gradients_are_at_parity(dtype):
    result = check(gpt2(), unlike_documents(), dtype=dtype, sites=True)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.unchecked == []
    positions = 1 + 4 + 2 + 8 + 8 + 5
    for quantity in ("site", "site grad"):
        compared = result.modes[0].quantities[quantity].compared
        assert compared == positions * sum(site_widths(unlike_documents().config).values())


def test_sites_are_not_shown_unless_asked_for():
    subject = gpt2()(unlike_documents().config, unlike_documents().hyper)
    subject.load(unlike_documents().state)
    assert subject.train_step(unlike_documents().documents).sites is None
    assert not hasattr(gpt2(sites=None)(unlike_documents().config, unlike_documents().hyper), "expose_sites")


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # Dynamo's own look
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(
    "make",
    [
        nano(),
        nano(OnlyOne),
        nano(wrap=lambda module: torch.compile(module, backend="eager")),
    ],
    ids=["some sites", "one document at a time", "compiled"],
)
def test_every_way_to_show_some_sites_is_at_parity(make, dtype):
    result = check(make, unlike_documents(), dtype=dtype, sites=True)
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.unchecked == []


@pytest.mark.parametrize("heads", [1, 2])
def test_sites_side_by_side_are_taken_apart(heads):
    queries_keys_values = ("layer{i}.attn.q", "layer{i}.attn.k", "layer{i}.attn.v")
    names = NANO | {"h.{i}.attn.qkv.weight": stacked(*QKV, heads=heads)}
    sites = {"h.{i}.attn.qkv": stacked(*queries_keys_values, heads=heads)}
    subject = nano(sites=sites, names=names, by_head=heads == 2)(unlike_documents().config, unlike_documents().hyper)
    twin = Twin(unlike_documents().config, unlike_documents().hyper)
    steps = []
    for either in (subject, twin):
        either.expose_sites = True
        either.load(unlike_documents().state)
        steps.append(either.train_step(unlike_documents().documents))
    assert steps[0].sites.keys() == {f"layer{i}.attn.{letter}" for i in range(2) for letter in "qkv"}
    for name in ("sites", "site_grads"):
        actual, expected = (getattr(step, name) for step in steps)
        for site in actual:
            torch.testing.assert_close(torch.stack(actual[site]), torch.stack(expected[site]))


def test_what_is_done_in_place_to_a_site_afterwards_does_not_change_it():
    def in_place(module):
        for block in module.h:
            block.act = nn.ReLU(inplace=True)

    result = check(gpt2(in_place), unlike_documents(), sites=True)
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, [])


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_backward_computes_again_is_not_seen_twice(reentrant):
    def recomputing(module):
        for block in module.h:
            block.forward = lambda x, forward=block.forward: checkpoint(forward, x, use_reentrant=reentrant)

    result = check(gpt2(recomputing), unlike_documents(), sites=True)
    assert result.verdict is Verdict.PARITY, result.reason


def with_gelu(module):
    module.h[1].act = nn.GELU()


def with_other_eps(module):
    module.h[1].ln_2.eps = 1e-6


def with_keys_halved(module):
    def halve(layer, inputs, output):
        q, k, v = output.chunk(3, dim=-1)
        return torch.cat([q, k / 2, v], dim=-1)

    module.h[0].c_attn.register_forward_hook(halve)


def with_unscaled_scores(module):
    module.h[0].c_proj.register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2,))


def without_gradient_of_the_norm(module):
    norm = module.h[1].ln_1
    norm.forward = lambda x, forward=norm.forward: x * (forward(x) / x).detach()


PLACES = [
    (with_gelu, "site", "layer1.mlp.post"),
    (with_other_eps, "site", "layer1.mlp.norm"),
    (with_keys_halved, "site", "layer0.attn.k"),
    (with_unscaled_scores, "site", "layer0.attn.heads"),
    (without_gradient_of_the_norm, "site grad", "layer0.mlp.residual"),
]


@pytest.mark.parametrize(("mistake", "quantity", "site"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mistake_in_a_module_is_placed_there(mistake, quantity, site, dtype):
    result = check(gpt2(mistake), unlike_documents(), modes="lock-step", dtype=dtype)
    assert result.verdict is Verdict.DIVERGED
    assert (result.modes[0].first_site.quantity, result.modes[0].first_site.key.name) == (quantity, site)


def test_mistake_is_placed_at_the_first_site_that_is_shown():
    some = {"h.{i}.c_fc": "layer{i}.mlp.pre", "head": "logits"}
    result = check(gpt2(with_gelu, sites=some), unlike_documents(), modes="lock-step")
    assert result.modes[0].first_site.key.name == "logits"


def document_by_document(module, batch):
    block_size = module.wpe.num_embeddings
    rows = [torch.tensor(tokens[: block_size + 1]) for tokens in batch]
    logits = [module(row[None, :-1]).logits[0] for row in rows]
    return torch.stack([F.cross_entropy(found, row[1:]) for found, row in zip(logits, rows)]).mean(), logits


def test_loss_of_the_user_may_show_sites_document_by_document():
    result = check(gpt2(loss=document_by_document), unlike_documents(), sites=True)
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, [])


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        (
            {"h.0.c_fc": "norm"},
            "The map of sites does not fit: the module h.0.c_fc gives (3, 4, 32), and norm would be (3, 4, 8) here "
            "(documents, positions, width). Correct the entry 'h.0.c_fc' of sites, or take it out.",
        ),
        ({"h.0.act.input": "norm"}, "the module h.0.act is given (3, 4, 32), and norm would be (3, 4, 8) here"),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_module_that_does_not_fit_its_site_is_named(sites, said, asked):
    result = check(gpt2(sites=sites), unlike_documents(), sites=asked)
    assert result.verdict is Verdict.ERROR
    assert said in result.reason
    assert "module_sites.py" not in result.reason


def never_called(sites, change=lambda module: None):
    """A module with parts that forward passes by."""

    def with_spare_parts(module):
        change(module)
        module.spare = nn.Identity()
        for block in module.h:
            block.spare = nn.Identity()

    return gpt2(with_spare_parts, sites=sites)


@pytest.mark.parametrize("asked", [True, False])
def test_module_that_is_never_called_is_left_unexercised_and_the_rest_is_checked(asked):
    sites = {"spare": "norm", "h.{i}.spare": "layer{i}.attn.norm", "h": "embedding", "h.{i}.act": "layer{i}.mlp.post"}
    result = check(never_called(sites), unlike_documents(), sites=asked)
    assert result.verdict is Verdict.PARITY, result.reason
    assert ("site" in result.modes[0].quantities) is asked
    for entry in ("spare", "h.{i}.spare", "h"):
        assert f"the site at {entry!r} in the map of sites, a module that was never called in forward" in (
            result.not_exercised
        )
    assert not any("'h.{i}.act'" in phrase for phrase in result.not_exercised)
    assert result.warnings == []


def test_module_that_is_called_in_one_layer_alone_is_named_in_the_other():
    subject = never_called({"h.{i}.spare": "layer{i}.mlp.post"})(unlike_documents().config, unlike_documents().hyper)
    act, spare = subject.module.h[0].act, subject.module.h[0].spare
    subject.module.h[0].act = nn.Sequential(act, spare)
    subject.load(unlike_documents().state)
    subject.train_step(unlike_documents().documents)
    (phrase,) = subject.not_exercised
    assert phrase.startswith("the site at 'h.1.spare'")


def test_map_of_which_no_module_is_called_shows_nothing_and_places_nothing():
    sites = {"spare": "norm", "h.{i}.spare": "layer{i}.attn.norm"}
    result = check(never_called(sites), unlike_documents(), sites=True)
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, ["site", "site grad"])
    result = check(never_called(sites, with_gelu), unlike_documents(), modes="lock-step")
    assert (result.verdict, result.modes[0].first_site) == (Verdict.DIVERGED, None)


WRONG_ENTRIES = {
    "h.{i}.ln_2": "layer{i}.attn.norm",
    "h.{i}.c_attn": stacked("layer{i}.attn.q", "layer{i}.attn.v", "layer{i}.attn.k"),
    "h.{i}.act": "layer{i}.mlp.post",
    "h.{i}.c_fc": "layer{i}.mlp.pre",
    "head": "logits",
}
"""Norms that are taken for each other, and keys for values."""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wrong_entry_of_the_map_is_told_where_all_else_is_right(dtype):
    result = check(gpt2(sites=WRONG_ENTRIES), unlike_documents(), dtype=dtype)
    assert result.verdict is Verdict.PARITY
    assert {(site.name, site.shows) for site in result.modes[0].suspected_sites} == {
        (f"layer{i}.{name}", f"layer{i}.{shows}")
        for i in range(2)
        for name, shows in (("attn.norm", "mlp.norm"), ("attn.k", "attn.v"), ("attn.v", "attn.k"))
    }
    first, *_, last = result.warnings
    assert first.startswith(
        "Suspected wrong entry in the map of sites: what 'h.0.ln_2' shows as layer0.attn.norm has the values of the "
        "reference's layer0.mlp.norm (step 0: site layer0.attn.norm[0] at document 0, position 0: "
    )
    assert last == "Suspected as well: 3 more of its entries."
    assert result.to_dict()["warnings"] == result.warnings
    for text in (check_markdown(result, ""), printed(result)):
        assert f"warning: {first}" in text


def printed(result) -> str:
    terminal = Console(file=io.StringIO(), width=1000)
    terminal.print(check_report(result, ""))
    return terminal.file.getvalue()


def test_wrong_entry_of_the_map_does_not_take_the_place_of_the_mistake():
    result = check(gpt2(with_gelu, sites=WRONG_ENTRIES), unlike_documents(), modes="lock-step")
    (mode,) = result.modes
    assert mode.first_site.key.name == "layer1.mlp.post"
    assert {site.name for site in mode.suspected_sites} >= {"layer0.attn.norm", "layer0.attn.k", "layer0.attn.v"}
    assert dict(mode.location_lines)["begins at"].startswith("site layer1.mlp.post at document 0, position 0: ")
    assert len(result.warnings) == 4


@pytest.mark.parametrize("make", [gpt2(), nano()], ids=["with gates", "without gates"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_right_map_is_not_suspected(make, dtype):
    result = check(make, unlike_documents(), dtype=dtype, modes="lock-step", probes=False)
    assert (result.verdict, result.warnings) == (Verdict.PARITY, [])


def test_mistake_that_rounding_hides_from_all_but_a_site_may_be_one():
    def shifted(module):
        module.h[0].c_fc.register_forward_hook(lambda layer, given, out: out.where(out > -0.05, out - 1000))

    result = check(gpt2(shifted), unlike_documents(), dtype="bfloat16", modes="lock-step", probes=False)
    (warning,) = result.warnings
    assert result.verdict is Verdict.PARITY
    assert "what 'h.0.c_fc' shows as layer0.mlp.pre is outside, and what is computed from it is not" in warning
    assert warning.endswith("; or rounding in bfloat16 hides what follows from it, which --dtype float64 would show.")


def test_values_of_no_other_site_are_suspected_too():
    def doubled(module):
        module.seen = nn.Identity()
        forward = module.ln.forward
        module.ln.forward = lambda x: forward(module.seen(x * 2) / 2)

    result = check(gpt2(doubled, sites={"seen": "embedding", "ln": "norm"}), unlike_documents())
    assert result.verdict is Verdict.PARITY
    (warning,) = result.warnings
    assert "what 'seen' shows as embedding is outside, and what is computed from it is not" in warning


@pytest.mark.parametrize(("mistake", "quantity", "site"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_mistake_in_a_module_is_no_wrong_entry(mistake, quantity, site, dtype):
    result = check(gpt2(mistake), unlike_documents(), modes="lock-step", dtype=dtype)
    assert not result.modes[0].suspected_sites or result.verdict is Verdict.PARITY


def test_sites_asked_for_count_though_a_wrong_entry_is_suspected():
    result = check(gpt2(sites=WRONG_ENTRIES), unlike_documents(), modes="lock-step", sites=True)
    assert result.verdict is Verdict.DIVERGED
    assert len(result.modes[0].suspected_sites) == 6
    assert result.modes[0].first_site is None


def test_sites_that_cannot_be_compared_are_told_though_nobody_asked_for_them():
    class Unreadable(Twin):
        def train_step(self, batch):
            step = super().train_step(batch)
            step.sites = {"norms": [[0.0]]} if self.expose_sites else None
            return step

    result = check(Unreadable, unlike_documents())
    assert result.verdict is Verdict.PARITY
    (warning,) = result.warnings
    assert warning.startswith("Its sites were not compared: The subject's sites have the unknown norms (is it norm?)")


def test_loss_that_calls_the_module_too_often_cannot_show_sites():
    def twice(module, batch):
        document_by_document(module, batch)
        return document_by_document(module, batch)

    result = check(gpt2(loss=twice), unlike_documents(), sites=True)
    assert "is given (1, 1, 8) and (1, 4, 8) and (1, 2, 8) and 3 more, and embedding would be" in result.reason


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        (
            {"h.{i}.ln1": "layer{i}.attn.norm"},
            "Not among the module's modules: h.0.ln1 (is it h.0.ln_1?), h.1.ln1 (is it h.1.ln_1?).",
        ),
        ({"h.0.ln_3.input": "norm"}, "Not among the module's modules: h.0.ln_3 (is it h.0.ln_2?)."),
        (
            {"h.0.act": "layer0.mlp.posts", "h.1.act": "layer2.mlp.post"},
            "Not among the sites that a module can show: layer0.mlp.posts (is it layer0.mlp.post?), "
            "layer2.mlp.post (is it layer1.mlp.post?). These are ",
        ),
        ({"h.0.ln_1": "norm", "ln": "norm"}, "norm is mapped more than once: to h.0.ln_1, ln."),
        (
            {"ln": Arranged(("norm",), lambda vector: vector[:4])},
            "The map of sites does not give ln all of norm, each once.",
        ),
    ],
)
def test_map_of_sites_that_does_not_fit_says_why(sites, said):
    assert said in refusal(sites)


def test_gates_of_a_subject_that_shows_other_sites_are_observed(monkeypatch):
    """In short formats gates near their kink are taken from the subject, which need not show layer{i}.mlp.post."""
    from parity.judging import exchange

    observed = []

    def spy(*given):
        observed.append(given)
        return exchange_observed(*given)

    exchange_observed = exchange.observed_gates
    monkeypatch.setattr(exchange, "observed_gates", spy)
    check(nano(), unlike_documents(), dtype="bfloat16", modes="lock-step")
    assert len(observed) >= unlike_documents().steps
    observed.clear()
    assert (
        check(gpt2(), replace(unlike_documents(), steps=1), dtype="bfloat16", modes="lock-step").verdict
        is Verdict.PARITY
    )
    assert observed == []
