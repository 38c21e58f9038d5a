"""The example of a torch.nn.Module works as it is written, and a mistake made in a copy of it is placed and named."""

import json
from pathlib import Path

import pytest

from parity.cli import main
from torch_twin.tools.threads import threads

TINY = ["--n-layer", "2", "--n-embd", "4", "--n-head", "2", "--block-size", "3", "--steps", "1", "--batch-size", "2"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from several threads, and lose much where the cores are busy."""
    with threads(1):
        yield


@pytest.fixture
def written(tmp_path, monkeypatch) -> Path:
    """The example, as `parity new-subject` writes it."""
    monkeypatch.chdir(tmp_path)
    assert main(["new-subject", "module_port_copy.py", "--example", "module"]) == 0
    return tmp_path / "module_port_copy.py"


def checked(capsys, *options: str) -> dict:
    capsys.readouterr()
    status = main(["check", "module_port_copy.py:make", *TINY, *options, "--json", "-"])
    result = json.loads(capsys.readouterr().out)
    assert (status == 0) is (result["verdict"] in ("IDENTICAL", "PARITY"))
    return result


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_example_is_at_parity_with_all_of_its_sites(written, capsys):
    result = checked(capsys, "--sites")
    assert (result["verdict"], result["warnings"]) == ("PARITY", [])
    compared = {row["quantity"]: row["compared"] for row in result["modes"][0]["quantities"]}
    assert compared["site"] == compared["site grad"] > 0
    assert not any(phrase.startswith("the site ") for phrase in result["not_exercised"])


@pytest.mark.parametrize("options", [("--preset", "microgpt_early"), ("--dtype", "float32"), ("--dtype", "bfloat16")])
def test_example_is_at_parity_in_other_formats_and_with_the_other_activation(written, capsys, options):
    result = checked(capsys, "--only-case", *options)
    assert (result["verdict"], result["warnings"]) == ("PARITY", [])
    mixed = "bfloat16" in options
    assert result["storage"] == ("float32" if mixed else result["dtype"])


def test_mistake_in_a_copy_is_placed_at_its_site_and_named(written, capsys):
    edited(written, "is_causal=True", "is_causal=True, scale=1.0")
    result = checked(capsys, "--mode", "lock-step", "--only-case")
    assert result["modes"][0]["first_site"]["tensor"].startswith("layer0.attn.heads")
    assert result["mistakes"] == ["scores_not_scaled"]


def test_wrong_entry_in_a_copy_is_suspected(written, capsys):
    edited(written, '"h.{i}.ln_1": "layer{i}.attn.norm"', '"h.{i}.ln_1": "layer{i}.mlp.norm"')
    edited(written, '"h.{i}.ln_2": "layer{i}.mlp.norm"', '"h.{i}.ln_2": "layer{i}.attn.norm"')
    result = checked(capsys, "--mode", "lock-step", "--only-case")
    assert result["verdict"] == "PARITY"
    assert (
        "what 'h.0.ln_2' shows as layer0.attn.norm has the values of the reference's layer0.mlp.norm"
        in (result["warnings"][0])
    )
