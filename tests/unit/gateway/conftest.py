"""Properties are about what comes out, not about how fast this machine is today."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
