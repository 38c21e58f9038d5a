"""A Python subject behind the protocol, `python -m parity.serve path/to/file.py:make`: see `parity.subjects.server`."""

from parity.subjects.server import Server, main, serve

__all__ = ["Server", "main", "serve"]

if __name__ == "__main__":
    main()
