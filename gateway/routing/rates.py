"""How fast one worker is, learnt from its own answers: seconds to a first token, seconds between tokens.

The first token's are a straight line over the prompt tokens that go through prefill, fitted by least squares over
answers of which the old ones fade. Where they were all of about one size they say nothing of its slope: then it is the
prior's line, scaled to them. Those between tokens are all seconds by all tokens of answers that fade.

A worker that has not been asked of late is taken to be as fast as those that are like it: believed slower it would
never be asked, and never be found to be as fast.
"""

from __future__ import annotations

from typing import Final

# What is believed of a worker until it, or one like it, has answered.
PRIOR_SECONDS_PER_PROMPT_TOKEN: Final = 1 / 5_500
PRIOR_SECONDS_PER_OUTPUT_TOKEN: Final = 0.02
# What one more request in the batch adds to the time between tokens, as a share of it. Fitted to answers it would be
# noise: the prefill steps between tokens come with the same load, and weigh more.
BATCH_SLOWDOWN: Final = 0.005

DECODED_KEPT: Final = 0.97  # of what earlier answers said, by each answer
KIN_KEPT: Final = 0.99
FADING: Final = 0.05  # weight of the newest answer, once there are as many: about the last 20 count
OUTLIER: Final = 10.0  # an answer that took more than so many times what was expected counts as that much
FEW: Final = 5  # answers before any is an outlier: an engine's first are slow, and the prior says little of it
SPREAD: Final = 0.25  # of the sizes, as a share of their mean, from which on they say something of the slope
STEEPEST: Final = 8.0  # times the scaled prior's slope; more is noise
FLATTEST: Final = 1 / 8


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


class Kin:
    """How fast the workers are that are alike (the same engine, model, version and GPUs), as of their latest answers.
    Rates are seconds a token."""

    __slots__ = (
        "_decoded_seconds",
        "_decoded_tokens",
        "_has_prefilled",
        "seconds_per_output_token",
        "seconds_per_prompt_token",
    )

    def __init__(
        self,
        seconds_per_prompt_token: float = PRIOR_SECONDS_PER_PROMPT_TOKEN,
        seconds_per_output_token: float = PRIOR_SECONDS_PER_OUTPUT_TOKEN,
    ) -> None:
        self.seconds_per_prompt_token = seconds_per_prompt_token
        self.seconds_per_output_token = seconds_per_output_token
        self._has_prefilled = False
        self._decoded_seconds = self._decoded_tokens = 0.0

    def prefilled(self, seconds_per_prompt_token: float) -> None:
        """One of them is now taken to need so long."""
        weight = FADING if self._has_prefilled else 1.0
        self._has_prefilled = True
        self.seconds_per_prompt_token += weight * (seconds_per_prompt_token - self.seconds_per_prompt_token)

    def decoded(self, seconds: float, tokens: int) -> None:
        """One of them has written an answer."""
        self._decoded_seconds = KIN_KEPT * self._decoded_seconds + seconds
        self._decoded_tokens = KIN_KEPT * self._decoded_tokens + tokens
        self.seconds_per_output_token = self._decoded_seconds / self._decoded_tokens

    def prefill_line(self) -> Line:
        """What to begin with for one of them."""
        return Line(0.0, self.seconds_per_prompt_token)
