"""How fast one worker is, learnt from its own answers: seconds to a first token, seconds between tokens.

Both are straight lines: the first token's over the prompt tokens that go through prefill, the gap's over the requests
that share the batch. A line is fitted by least squares over answers of which the old ones fade. Where they were all of
about one size they say nothing of its slope: then it is the prior's line, scaled to them.
"""

from __future__ import annotations

FADING = 0.05  # weight of the newest answer, once there are as many: about the last 20 count
OUTLIER = 10.0  # an answer that took more than so many times what was expected counts as that much
FEW = 5  # answers before any is an outlier: an engine's first are slow, and the prior says little of it
SPREAD = 0.25  # of the sizes, as a share of their mean, from which on they say something of the slope
STEEPEST = 8.0  # times the scaled prior's slope; more is noise
FLATTEST = 1 / 8


class Line:
    """`intercept + slope * x` seconds, both positive; a prior until something is observed."""

    __slots__ = ("_count", "_n", "_prior_intercept", "_prior_slope", "_x", "_xx", "_xy", "_y", "intercept", "slope")

    def __init__(self, intercept: float, slope: float) -> None:
        self.intercept = self._prior_intercept = intercept
        self.slope = self._prior_slope = slope
        self._count = 0
        self._n: float = 0.0  # sums over the answers, of which the old ones fade
        self._x: float = 0.0
        self._y: float = 0.0
        self._xx: float = 0.0
        self._xy: float = 0.0

    def observe(self, x: float, seconds: float) -> None:
        """One answer. `x` and `seconds` are not negative."""
        if self._count >= FEW:
            seconds = min(seconds, OUTLIER * (self.intercept + self.slope * x))
        self._count += 1
        keep = 1.0 - max(FADING, 1.0 / self._count)
        add = 1.0 - keep
        self._n = keep * self._n + add
        self._x = keep * self._x + add * x
        self._y = keep * self._y + add * seconds
        self._xx = keep * self._xx + add * x * x
        self._xy = keep * self._xy + add * x * seconds
        self._fit()

    def _fit(self) -> None:
        n, x, y = self._n, self._x, self._y
        guess = self._prior_intercept * n + self._prior_slope * x
        if guess <= 0.0 or y <= 0.0:
            return
        scale = y / guess
        self.intercept, self.slope = scale * self._prior_intercept, scale * self._prior_slope
        mean = x / n
        variance = self._xx / n - mean * mean
        if self._count < FEW or variance <= SPREAD * SPREAD * mean * mean:
            return
        slope = (self._xy / n - mean * y / n) / variance
        slope = min(max(slope, FLATTEST * self.slope), STEEPEST * self.slope)
        intercept = (y - slope * x) / n
        if intercept < 0.0:  # no answer comes before it is asked for: through the origin, then
            intercept, slope = 0.0, self._xy / self._xx
        self.intercept, self.slope = intercept, slope
