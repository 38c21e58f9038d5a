"""A repository as GitHub has it, and clones of it as its workflows get them."""

from pathlib import Path

from tests.gate.refactors import MODEL, PORT, WRONG, git


class Hub:
    """A remote with a subject: main has got an intended change since a branch with mere documentation left it.

    main: start, intended, main; topic: start, first, topic; merge: main with topic, as GitHub makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        git("init", "--quiet", "--initial-branch=main", str(folder))
        for name, text in (("model.py", MODEL), ("port.py", PORT)):
            (folder / name).write_text(text, encoding="utf-8")
        self.start = self.commit("start")
        (folder / "model.py").write_text(MODEL.replace(*WRONG), encoding="utf-8")
        self.intended = self.commit("intended change")
        self.git("checkout", "--quiet", "-b", "topic", self.start)
        self.first, self.topic = self.commit("docs"), self.commit("more docs")
        self.git("checkout", "--quiet", "main")
        self.main = self.commit("tip of main")
        self.git("checkout", "--quiet", "--detach")
        self.merge = self.merged(self.topic)
        self.git("checkout", "--quiet", "main")

    def git(self, *arguments: str) -> str:
        return git("-C", str(self.folder), *arguments).strip()

    def commit(self, what: str) -> str:
        (self.folder / what).write_text(what, encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", what)
        return self.git("rev-parse", "HEAD")

    def merged(self, commit: str) -> str:
        self.git("merge", "--quiet", "--no-ff", "-m", "merge", commit)
        merge = self.git("rev-parse", "HEAD")
        self.git("update-ref", "refs/pull/1/merge", merge)
        return merge

    def pull_request(self, stale_base: str) -> dict:
        return {"pull_request": {"base": {"sha": stale_base, "ref": "main"}, "head": {"sha": self.topic}}}


def checked_out(hub: Hub, commit: str, folder: Path, depth: int) -> Path:
    """What actions/checkout does."""
    git("init", "--quiet", str(folder))
    git("-C", str(folder), "remote", "add", "origin", hub.folder.as_uri())
    git("-C", str(folder), "fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", commit)
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    return folder
