"""The truth about the conversions: plain counting of people whom the generator knows, and textbook formulas."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.data.conversions import CHANCES, SITE, Happening, Stream

Z = 1.959963984540054  # 95 % of a normal distribution lie within


@dataclass(frozen=True)
class Reached:
    conversions: int
    converted: int


def reached(happenings: Iterable[Happening]) -> Reached:
    found = list(happenings)
    return Reached(len(found), len({h.person for h in found} - {-1}))


def of_site(stream: Stream, since: int, until: int) -> list[Happening]:
    return [h for h in stream.happenings if h.source == SITE and since <= h.at < until]


def is_goal(kind: str, value: str) -> Callable[[Happening], bool]:
    """Whether an event reaches a goal."""
    if kind == "path":
        return lambda happening: happening.event == "page_view" and happening.path == value
    return lambda happening: happening.event == value


@dataclass(frozen=True)
class Variation:
    """What each of the people exposed to it, and to it alone, did."""

    mixed: int
    purchases: list[int]
    values: list[float]

    @property
    def exposed(self) -> int:
        return len(self.values)

    @property
    def converted(self) -> list[float]:
        return [float(count > 0) for count in self.purchases]


def experiment(stream: Stream) -> dict[str, Variation]:
    did: dict[int, list[Happening]] = defaultdict(list)
    for happening in stream.happenings:
        if happening.event == "purchase":
            did[happening.person].append(happening)
    found = {}
    for name in CHANCES:
        shown = [person for person in stream.people if name in person.variations]
        alone = [person for person in shown if len(person.variations) == 1]
        after = [[h for h in did[p.number] if h.at >= p.exposed_at] for p in alone]
        found[name] = Variation(
            len(shown) - len(alone),
            [len(purchases) for purchases in after],
            [math.fsum(h.value or 0.0 for h in purchases) for purchases in after],
        )
    return found


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def difference(treatment: list[float], control: list[float]) -> Estimate:
    """Of two rates, by the normal approximation."""
    found = statistics.fmean(treatment) - statistics.fmean(control)
    error = math.sqrt(_mean_error(treatment) ** 2 + _mean_error(control) ** 2)
    return Estimate(found, found - Z * error, found + Z * error)


def lift(treatment: list[float], control: list[float], binary: bool) -> Estimate:
    """Of one mean over another, by the delta method: errors relative to their means add up in squares."""
    over, under = statistics.fmean(treatment), statistics.fmean(control)
    error = _mean_error if binary else _sample_error
    relative = math.hypot(error(treatment) / over, error(control) / under)
    spread = Z * relative * over / under
    return Estimate(over / under - 1, over / under - 1 - spread, over / under - 1 + spread)


def welch(treatment: list[float], control: list[float]) -> tuple[Estimate, float]:
    """The difference of two means with its interval, and the p-value, of Welch's t-test."""
    a, b = _sample_error(treatment) ** 2, _sample_error(control) ** 2
    found = statistics.fmean(treatment) - statistics.fmean(control)
    freedom = (a + b) ** 2 / (a * a / (len(treatment) - 1) + b * b / (len(control) - 1))
    error = math.sqrt(a + b)
    reach = _quantile(freedom) * error
    p_value = 2 * (1 - _student(abs(found) / error, freedom))
    return Estimate(found, found - reach, found + reach), p_value


def two_sided(estimate: Estimate) -> float:
    """The p-value of a normal estimate."""
    error = (estimate.high - estimate.low) / 2 / Z
    return 2 * (1 - statistics.NormalDist().cdf(abs(estimate.value) / error))


def _mean_error(binary: list[float]) -> float:
    rate = statistics.fmean(binary)
    return math.sqrt(rate * (1 - rate) / len(binary))


def _sample_error(sample: list[float]) -> float:
    return math.sqrt(statistics.variance(sample) / len(sample))


def _student(t: float, freedom: float) -> float:
    """Student's distribution function of t >= 0: its density, summed by Simpson's rule."""
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    top = math.exp(scale) / math.sqrt(freedom * math.pi)
    steps = 2_000
    width = t / steps
    weights = (1 if i in (0, steps) else 4 if i % 2 else 2 for i in range(steps + 1))
    density = (
        top * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)
    )
    return 0.5 + width / 3 * math.fsum(w * d for w, d in zip(weights, density, strict=True))


def _quantile(freedom: float) -> float:
    """The t up to which 97.5 % lie."""
    low, high = 1.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, freedom) < 0.975 else (low, middle)
    return low
