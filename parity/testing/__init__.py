"""For the tests of whoever writes an implementation: assertions, Hypothesis strategies and profiles."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.testing.assertions import ParityError, assert_parity

__all__ = ["ParityError", "assert_parity"]


def __getattr__(name: str) -> Any:
    # Lazily, for the plugin needs the profiles alone, and pytest starts it always.
    if name in __all__:
        from parity.testing import assertions

        return getattr(assertions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
