"""What all tests share: quick property tests, the same on every run of a checkout."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A loaded machine is no failure of the code, so no example has a deadline; and a
# failure that shows on one machine shows on all, so the examples follow from the code.
settings.register_profile(
    "caravan",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("caravan")
