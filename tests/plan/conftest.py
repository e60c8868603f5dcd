"""A busy machine is slow now and then: examples have no time limit of their own."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
