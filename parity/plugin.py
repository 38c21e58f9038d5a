"""The pytest plugin, PYTEST_DONT_REWRITE: see `parity.suite.plugin`."""

from parity.suite.plugin import *  # noqa: F403 - pytest finds hooks and fixtures by their names
