"""Whose files a gate's subject has loaded: those of its own revision, or of another place."""

import sys
from pathlib import Path
from typing import Any

from parity.errors import UsageError

_HARNESS = {"parity", "reference", "__main__"}
_INSTALLED = {"site-packages", "dist-packages"}


class OwnFiles:
    """The files of a repository's root as they lie in a folder, which may be the root itself."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self._own: dict[str, Any] = {}
        """Modules that were looked at and lie where they are to: paths cost more than a step, and change seldom."""

    def move_search_path(self) -> None:
        """Look for the repository's own modules in the other folder."""
        for i, entry in enumerate(sys.path):
            path = Path(entry).resolve()
            if path.is_relative_to(self.root) and not _INSTALLED & set(path.parts):
                sys.path[i] = str(self.folder / path.relative_to(self.root))

    def require(self) -> None:
        """UsageError where a file of the repository was loaded from another place than the folder."""
        root, folder = self.root, self.folder
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


def loaded_files() -> list[str]:
    """The files of all modules but the harness's own."""
    return sorted(_files(dict(sys.modules)).values())


def _files(modules: dict[str, Any]) -> dict[str, str]:
    """By name, the files of all modules but the harness's own."""
    loaded = {name: getattr(module, "__file__", None) for name, module in modules.items()}
    return {name: file for name, file in loaded.items() if file and name.partition(".")[0] not in _HARNESS}
