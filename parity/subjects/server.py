"""A Python subject behind the protocol, as `--isolate` runs it: `python -m parity.serve path/to/file.py:make`."""

import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from parity.answers import as_array
from parity.errors import SubjectError, UnsupportedModel, UsageError
from parity.subjects.attributes import attribute, has_sites, left_out, show_sites, tied_head, warnings, without_update
from parity.subjects.calls import guarded, wait
from parity.subjects.messages import PROTOCOL, decoded, encoded, step_message
from parity.subjects.subject import make_subject, subject_dtype, subject_format, subject_storage, train_step
from reference.config import Config, Hyper, State

_HARNESS = {"parity", "reference", "__main__"}
_INSTALLED = {"site-packages", "dist-packages"}
_METHODS = ("decode", "sample")
"""What a subject may have beyond load and train_step."""


class Server:
    """The subjects of one factory, message by message."""

    def __init__(self, factory: str, moved: tuple[Path, Path] | None = None) -> None:
        self.factory, self.moved = factory, moved
        self.subject: Any = None
        self.number = 0
        self._own: dict[str, Any] = {}
        """Modules that were looked at and lie where they are to: paths cost more than a step, and change seldom."""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message of the harness."""
        kind = message.pop("type")
        return getattr(self, f"on_{kind}")(**message)  # type: ignore[no-any-return]

    def on_hello(
        self, protocol: str, config: dict[str, Any], hyper: dict[str, Any], options: dict[str, str]
    ) -> dict[str, Any]:
        """Make the subject."""
        if protocol != PROTOCOL:
            raise UsageError(f"This is a server for the protocol {PROTOCOL!r}, not {protocol!r}.")
        self.made_for = Config(**config), Hyper(**hyper)
        self.subject = make_subject(self.factory, self.made_for[0], self.made_for[1], **options)
        self.require_files_of_its_own()
        return {
            "type": "ready",
            "protocol": PROTOCOL,
            "dtype": subject_dtype(self.subject),
            "storage": (subject_storage(self.subject) or subject_format(self.subject)).name,
            "sizes": sizes if isinstance(sizes := attribute(self.subject, "sizes"), str) else None,
            "sites": has_sites(self.subject),
            "forward_only": attribute(self.subject, "forward_only", False) is True,
            "without_update": bool(without_update(self.subject)),
            "tied_head": tied_head(self.subject),
            "not_exercised": left_out(self.subject),
            "warnings": warnings(self.subject),
            "methods": [name for name in _METHODS if callable(attribute(self.subject, name))],
        }

    def on_load(self, **state: Any) -> dict[str, Any]:
        """Hand on the state."""
        self.number = state["step"]
        guarded(f"load before step {self.number}", self.subject.load, State(**state))
        return {"type": "loaded"}

    def on_train_step(self, batch: list[list[int]], sites: bool) -> dict[str, Any]:
        """One step; the input must come out of it as it went in."""
        show_sites(self.subject, sites)
        start = time.perf_counter()
        step = train_step(self.subject, batch, f"step {self.number}")
        wait()
        seconds = time.perf_counter() - start
        self.number += 1
        self.require_files_of_its_own()
        # What some subjects leave unexercised they know only after a step.
        return {**step_message(step), "seconds": seconds, "not_exercised": left_out(self.subject)}

    def on_decode(self, tokens: list[int]) -> dict[str, Any]:
        """The logits of single steps."""
        logits = guarded("decode", self.subject.decode, tokens)
        return {"type": "logits", "logits": as_array(logits, "The subject's logits of decode").tolist()}

    def on_sample(self, **options: Any) -> dict[str, Any]:
        """Documents."""

        def sample() -> list[list[int]]:
            return [[int(token) for token in document] for document in self.subject.sample(**options)]

        return {"type": "samples", "documents": guarded("sample", sample)}

    def on_time(self, state: dict[str, Any], documents: list[list[int]], **options: Any) -> dict[str, Any]:
        """Speed and memory; the ladder asks for them."""
        from parity.subjects.timing import timed

        config, hyper = self.made_for
        timing = guarded("timing", timed, self.subject, config, hyper, State(**state), documents, **options)
        return {"type": "time", "timing": timing.to_dict()}

    def on_files(self) -> dict[str, Any]:
        """The files of all modules but the harness's own; the gate asks for them."""
        return {"type": "files", "files": sorted(_files(dict(sys.modules)).values())}

    def require_files_of_its_own(self) -> None:
        """UsageError where a gate's subject has loaded a file of the repository from another place than its own."""
        if self.moved is None:
            return
        root, folder = self.moved
        new = {name: module for name, module in list(sys.modules.items()) if self._own.get(name) is not module}
        for name, file in sorted(_files(new).items()):
            path = Path(file).resolve()
            if path.is_relative_to(folder) and not _INSTALLED & set(path.parts):
                continue
            if path.is_relative_to(root) and not _INSTALLED & set(path.parts):
                raise UsageError(
                    f"The other revision's subject loads {path.relative_to(root)} from the working tree, as an "
                    "installed package may. Name the subject by its file, and let it import its neighbours from there."
                )
            module = Path(*name.split("."))
            inside = [home / module for home in (Path.cwd(), folder, folder / "src")]
            if any(place.with_suffix(".py").is_file() or (place / "__init__.py").is_file() for place in inside):
                raise UsageError(
                    f"The subject loads {name} from an installed copy, which is the same at both revisions, and not "
                    "from the repository. Uninstall it, or put the repository's own on PYTHONPATH."
                )
        self._own |= new


def _files(modules: dict[str, Any]) -> dict[str, str]:
    """By name, the files of all modules but the harness's own."""
    loaded = {name: getattr(module, "__file__", None) for name, module in modules.items()}
    return {name: file for name, file in loaded.items() if file and name.partition(".")[0] not in _HARNESS}


def _move_search_path(root: Path, folder: Path) -> None:
    """Look for the repository's own modules in the other folder."""
    for i, entry in enumerate(sys.path):
        path = Path(entry).resolve()
        if path.is_relative_to(root) and not _INSTALLED & set(path.parts):
            sys.path[i] = str(folder / path.relative_to(root))


def serve(server: Server, lines: IO[bytes], answers: IO[bytes]) -> None:
    """Answer line by line until there are no more."""
    for line in lines:
        try:
            answer = encoded(server.answer(decoded(line)))
        except (SubjectError, UsageError) as error:
            kinds = {"usage": isinstance(error, UsageError), "unsupported": isinstance(error, UnsupportedModel)}
            answer = encoded({"type": "error", "message": str(error), **kinds})
        answers.write(answer)
        answers.flush()


def main() -> None:
    """Serve on standard input and output, which the subject itself must not write to."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    factory, *moved = sys.argv[1:]
    root, folder = (Path(path).resolve() for path in moved) if moved else (None, None)
    if root is not None and folder is not None:
        _move_search_path(root, folder)
    serve(Server(factory, (root, folder) if root and folder else None), sys.stdin.buffer, private)
