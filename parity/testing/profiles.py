"""Hypothesis profiles: how many cases a property draws. Imports Hypothesis only where a profile is asked for."""

import os
from typing import TYPE_CHECKING, Any

from parity.errors import UsageError

if TYPE_CHECKING:
    from hypothesis import settings

PROFILES: dict[str, dict[str, Any]] = {
    "dev": {"max_examples": 20},
    "ci": {"max_examples": 50, "derandomize": True},
    "thorough": {"max_examples": 500},
}
"""Hypothesis profiles: what they say of `hypothesis.settings`."""


def profile(name: str | None = None, cases: int | None = None) -> "settings":
    """The Hypothesis settings of a profile; None for that of the environment. cases: in place of its number of them.

    Raises UsageError where there is no such profile.
    """
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise UsageError("Properties need hypothesis: install microgpt-parity[test].") from None

    name = name or os.environ.get("PARITY_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
    if name not in PROFILES:
        raise UsageError(f"There is no profile {name!r}; there are {', '.join(PROFILES)}.")
    return _patient(**{**PROFILES[name], **({} if cases is None else {"max_examples": cases})})


def _patient(**chosen: Any) -> "settings":
    """Settings for properties that train models."""
    from hypothesis import HealthCheck, Phase, settings

    return settings(
        settings.get_profile("default"),
        # The reference is slow by nature, and a slow machine is no failure.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        # One mistake fails in many ways, each of which would be shrunk; and to explain a failure takes longer than to
        # find it, and says less than where it diverged.
        report_multiple_bugs=False,
        phases=[phase for phase in Phase if phase is not Phase.explain],
        **chosen,
    )


def load_profile(name: str | None = None, cases: int | None = None) -> None:
    """Make a profile that of all properties to come."""
    chosen = profile(name, cases)
    from hypothesis import settings

    settings.register_profile("parity", chosen)
    settings.load_profile("parity")


def load_patience() -> None:
    """Where nobody has loaded a profile: no deadline, and one failure at a time; as many cases as by default."""
    from hypothesis import settings

    if settings.get_current_profile_name() == "default":
        settings.register_profile("parity", _patient())
        settings.load_profile("parity")
