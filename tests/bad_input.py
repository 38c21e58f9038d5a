"""What can be wrong with the words of a command line and with the files that they name, and what is said of it."""

import json
from pathlib import Path
from typing import NamedTuple

from parity import Case

PORT = "from parity.oracle.python_reference import Reference\nmake = Reference\nnumber = 3\n"


class Bad(NamedTuple):
    """The words after `parity`, without those that the test adds, and what is said, in essence."""

    words: str | tuple[str, ...]
    said: tuple[str, ...]

    @property
    def argv(self) -> list[str]:
        return self.words.split() if isinstance(self.words, str) else list(self.words)

    def __str__(self) -> str:
        return " ".join(self.argv)[:60].encode("ascii", "backslashreplace").decode()


def bad(words: str | tuple[str, ...], *said: str) -> Bad:
    return Bad(words, said)


USAGE = (
    bad("--", "COMMAND"),
    bad("--frob", "COMMAND", "See parity --help."),
    bad("chekc", "'chekc' (did you mean 'check'?)", "See parity --help."),
    bad("--completion fish", "'fish'", "bash, zsh, tcsh"),
    bad("check --stepps=3", "no option --stepps=3 (did you mean '--steps'?)", "See parity check --help."),
    bad("mutants --dtype float8", "there is no 'float8'", "float64, float32, bfloat16, float16"),
    bad("mutants --mutant", "--mutant: expected at least one argument"),
    bad("mutants gelu", "unrecognized arguments: gelu", "See parity mutants --help."),
    bad("mutants -- ./port", "a COMMAND after -- takes the place of the SUBJECT of a command that has one"),
    bad("check --frob", "no option --frob.", "See parity check --help."),
    bad("gate --markdwon x", "(did you mean '--markdown'?)", "See parity gate --help."),
    bad("check --steps", "--steps: expected one argument"),
    bad("check --steps 0", "--steps: it must be a whole number of at least 1, not '0'"),
    bad("check --steps -1", "--steps"),
    bad("check --steps x", "--steps: it must be a whole number of at least 1, not 'x'"),
    bad("check --steps 1.5", "--steps", "'1.5'"),
    bad("check --steps 1e3", "--steps", "'1e3'"),
    bad("check --steps ²", "--steps"),
    bad(("check", "--steps", "1" * 5000), "--steps: it must be a whole number"),
    bad(("check", "--steps", ""), "--steps: it must be a whole number of at least 1, not ''"),
    bad("check --batch-size 0", "--batch-size"),
    bad("check --n-head 0", "--n-head"),
    bad("check --n-embd 4.0", "--n-embd"),
    bad("check --seed x", "--seed"),
    bad("check --seed 1.5", "--seed"),
    bad("check --preset gpt-2", "no 'gpt-2'", "there are microgpt_200, microgpt_early"),
    bad("check --preset microgpt_20", "(did you mean 'microgpt_200'?)"),
    bad("check --dtype float_32", "(did you mean 'float32'?)"),
    bad("check --mode lockstep", "(did you mean 'lock-step'?)"),
    bad("check --oracle rewind", "there are replay, python"),
    bad("check --activation gelu", "there are relu, relu2"),
    bad("check --lr-schedule cos", "there are linear, cosine"),
    bad("check --learning-rate -1", "--learning-rate"),
    bad("check --learning-rate nan", "a number of at least 0, not 'nan'"),
    bad("check --learning-rate inf", "a number of at least 0, not 'inf'"),
    bad("check --beta1 1", "--beta1: it must be a number of at least 0 and below 1, not '1'"),
    bad("check --beta2 much", "--beta2"),
    bad("check --false-alarm 0", "a number between 0 and 1, not '0'"),
    bad("check --false-alarm nan", "a number between 0 and 1, not 'nan'"),
    bad("check --time-limit 0", "--time-limit"),
    bad("check --time-limit 1e300", "a number of seconds between 0.001 and 10,000,000, not '1e300'"),
    bad("check --time-limit 1e-9", "a number of seconds between 0.001 and 10,000,000, not '1e-9'"),
    bad("check --time-limit nan", "--time-limit"),
    bad("check --memory-limit 1e300", "a number of GiB between 0.001 and 1,000,000, not '1e300'"),
    bad("check --memory-limit 0", "--memory-limit"),
    bad("check --memory-limit inf", "--memory-limit"),
    bad("gate --rounds -1", "--rounds"),
    bad("ladder --threads 0", "--threads"),
    bad("check port.py:make other.py:make", "unrecognized arguments: other.py:make; a command stands after --"),
    bad("check --", "no command after --"),
    bad("check port.py:make -- cat", "takes the place of the SUBJECT"),
    bad("vectors new -- cat", "takes the place of the SUBJECT"),
    bad("replay", "CASE.json"),
    bad("verify folder", "RESULTS.json"),
    bad("new-subject", "FILE"),
    bad("new-subject new.py --example rust", "there are numpy, module, training, c"),
)
"""What the parser refuses: it points to the help of the command, and leaves as one does."""

INPUT = (
    # Limits and numbers that do not go together.
    bad("check --memory-limit 4", "--memory-limit is kept only for a subject in a process of its own: add --isolate."),
    bad("check --steps 1001", "num_steps 1000"),
    bad("check --steps 9 --num-steps 8", "num_steps 8"),
    bad("check --n-head 3", "16 cannot be split evenly over 3 heads"),
    bad("check --n-embd 1000000", "12,000,070,000,000 parameters is too large for this machine's memory"),
    bad("check --n-layer 1000000000000", "parameters is too large for this machine's memory"),
    bad("check --batch-size 1000000000000", "A run of 20,000,000,000,000 documents is too long"),
    bad("check --steps 100000000 --num-steps 100000000", "A run of 100,000,000 documents is too long"),
    bad("check --truth --sites", "without sites"),
    bad("check --truth --mode free-running", "in lock-step"),
    # Documents.
    bad("check --names missing.txt", "There is no file missing.txt"),
    bad("check --names binary.txt", "binary.txt"),
    bad("check --names latin1.txt", "latin1.txt is not UTF-8 text"),
    bad("check --names empty.txt", "empty.txt holds no documents"),
    bad("check --names many.txt", "many.txt has 1050 distinct characters"),
    bad("check --names folder", "folder cannot be read (Is a directory)"),
    bad("check --names names.txt/x", "cannot be read (Not a directory)"),
    bad(("check", "--names", "\udcff.txt"), "There is no file \\udcff.txt"),
    bad(("check", "--names", "x" * 300), "cannot be read (File name too long)"),
    # Subjects.
    bad("check no.such.module:make", "There is no module 'no.such.module'."),
    bad("check nowhere.py:make", "There is no file nowhere.py."),
    bad("check folder.py:make", "There is no file folder.py."),
    bad("check port.py:mkae", "port.py has no 'mkae' (did you mean 'make'?)."),
    bad("check torch_twin.microgpt:mkae", "(did you mean 'make'?)"),
    bad("check port.py:number", "port.py:number cannot be called; a factory make(config, hyper) is needed."),
    bad("check port.py", "path/to/file.py:make, not 'port.py'"),
    bad("check make", "not 'make'"),
    bad("check :make", "not ':make'"),
    bad("check port.py:", "not 'port.py:'"),
    bad("check ..port:make", "'..port' is not the name of a module"),
    bad("check port.js:make", "There is no module 'port.js'."),
    bad("check port.py:make --dtype float32", "no parameter 'dtype'"),
    bad("check port.py:make --device cpu", "no parameter 'device'"),
    bad("check --isolate make", "not 'make'"),
    bad("check -- ./nowhere --fast", "The command ./nowhere --fast cannot be started: No such file or directory."),
    bad("check -- ./names.txt", "cannot be started: Permission denied."),
    bad("check -- ./folder", "cannot be started: Permission denied."),
    bad(("check", "--", ""), "needs at least its name"),
    # Where the result is to go, which is found before the run.
    bad("check --json folder", "folder cannot be written: it is a folder."),
    bad("check --json names.txt/x", "names.txt/x cannot be written: Not a directory."),
    bad("check --json names.txt/x/y", "names.txt/x/y cannot be written: Not a directory."),
    bad(("check", "--json", ""), "--json needs the name of a file."),
    bad(("check", "--json", "x" * 254), "cannot be written: File name too long."),
    bad("check --json loop", "loop cannot be written"),
    bad("check --json /proc/nowhere/x", "/proc/nowhere/x cannot be written"),
    bad("check --json names.txt --names names.txt", "--json names.txt would overwrite what is read"),
    bad("check port.py:make --json ./port.py", "--json ./port.py would overwrite what is read"),
    bad("replay case.json --json case.json", "would overwrite what is read"),
    bad("check port.py:make --json z --markdown ./z", "--markdown ./z is --json, too; name another file."),
    bad("gate port.py:make --json z --markdown z", "--markdown z is --json, too; name another file."),
    bad("gate port.py:make --accepted z --json z", "--json z is the file of accepted changes, too; name another file."),
    bad("gate port.py:make --accept Why --accepted folder", "cannot be written: it is a folder."),
    bad("gate port.py:make --accept Why --accepted names.txt/x", "names.txt/x cannot be written: Not a directory."),
    bad("gate port.py:make --markdown folder", "folder cannot be written: it is a folder."),
    bad("ladder --rungs twin --markdown names.txt/x", "cannot be written: Not a directory."),
    # Stored cases.
    bad("replay missing.json", "The case missing.json cannot be read: No such file or directory."),
    bad("replay folder", "The case folder cannot be read: Is a directory."),
    bad("replay binary.txt", "binary.txt"),
    bad("replay latin1.txt", "The case latin1.txt is not JSON text."),
    bad("replay names.txt", "names.txt: This is not a stored case"),
    bad("replay list.json", "its format is not"),
    bad("replay deep.json", "This is not a stored case"),
    bad("replay half.json", "This is not a stored case"),
    bad("replay unknown.json", "This is not a stored case", "warmth"),
    bad("replay nan.json", "must hold finite numbers only"),
    bad("replay token.json", "Document 0 has the token 99"),
    bad("replay shape.json", "wte must be 5 rows of 2 numbers"),
    # Other commands.
    bad("gate port.py:make", "is not in a git repository"),
    bad("ladder --rungs twni", "There is no rung twni (did you mean 'twin'?); there are twin,"),
    bad("ladder --rungs ,", "There is no rung ','"),
    bad("mutants --mutant gelo", "There is no mistake gelo (did you mean 'gelu'?); parity mutants --list shows all."),
    bad(
        "mutants --stage atention", "There is no stage atention (did you mean 'attention'?); there are embedding, norm,"
    ),
    bad("mutants --stage MLP --json folder", "folder cannot be written: it is a folder."),
    bad("vectors names.txt", "names.txt"),
    bad("vectors folder", "folder"),
    bad("vectors names.txt/x", "names.txt/x"),
    bad("vectors new --dtype bfloat16", "bfloat16"),
    bad("verify nowhere right.json", "There is no folder nowhere."),
    bad("verify folder list.json", "folder"),
    bad("new-subject port.py", "port.py exists already, and is left as it is."),
    bad("new-subject new.js", "ends in .py"),
    bad("new-subject new.py --example c", "ends in .c"),
    bad("new-subject nowhere/new.py", "cannot be written: No such file or directory."),
    bad(("new-subject", "x" * 300 + ".py"), "cannot be written: File name too long."),
)
"""What is found out later, and still before anything is run."""


def write_files(folder: Path) -> None:
    """The files that the words name."""
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "folder.py").mkdir()
    (folder / "loop").symlink_to("loop")
    for name, text in {
        "names.txt": "ann\nbob\n",
        "kept.json": "kept",
        "port.py": PORT,
        "empty.txt": "\n \n",
        "many.txt": "".join(map(chr, range(0x4E00, 0x4E00 + 1050))),
        "list.json": "[]",
        "right.json": "{}",
        "deep.json": "[" * 100_000,
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.txt").write_bytes(bytes(128) + b"\n")
    (folder / "latin1.txt").write_bytes("José".encode("latin-1"))
    _write_cases(folder)


def _write_cases(folder: Path) -> None:
    """A stored case, and what is none."""
    text = Case.from_names(folder / "names.txt", steps=1, config={"n_embd": 2, "n_head": 1, "block_size": 2}).to_json()
    unknown, not_a_number, token, shape = (json.loads(text) for _ in range(4))
    unknown["config"]["warmth"] = 3
    not_a_number["state"]["params"]["wte"][0][0] = float("nan")
    token["documents"][0][1] = 99
    del shape["state"]["params"]["wte"][0]
    files = {"case": text, "half": text[: len(text) // 2]}
    cases = {"unknown": unknown, "nan": not_a_number, "token": token, "shape": shape}
    for name, content in {**files, **{name: json.dumps(case) for name, case in cases.items()}}.items():
        (folder / f"{name}.json").write_text(content, encoding="utf-8")
