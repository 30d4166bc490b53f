"""How sure a mean is and whether two methods differ: intervals and tests over images, by scipy.

Whatever is asked of several data sets counts each of them alike, however many images it has (the paper's table 8): the
estimate is the mean of their means, w_i = 1 / (data sets * images of its set) for image i. Of one data set all of it is
the ordinary thing.

    t           Student's; of several sets as strata, the variance s_d^2 / n_d of each mean added up, the degrees of
                freedom by Welch and Satterthwaite
    bootstrap   BCa, images drawn anew within each set; not of sets of fewer than five, whose draws say too little
    Wilcoxon    signed-rank; of several sets weighted: sum of w_i * sign_i * rank_i over all images together, against
                the normal distribution that it has when every sign is a coin's
    Holm        for the p values of one table together
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError

CONFIDENCE = 0.95
#: Draws of the bootstrap, and the seed that makes them the same every time.
RESAMPLES, SEED = 9_999, 0
#: Of fewer values the bootstrap's interval would be far too narrow.
FEWEST = 5
#: Numbers alive at once in the bootstrap.
_DRAWN = 4_000_000


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Mean:
    """Of n values in `sets` data sets, each counting alike. No interval where a set has only one value."""

    n: int
    sets: int
    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """One method less another on the same images; what cannot be told of so few images is None.

    wins        share of the images where the first value is the larger one, ties counting half
    left_out    images without a finite value of both (two equal images have no finite PSNR)
    """

    n: int
    sets: int
    mean: float
    t: Interval | None
    bootstrap: Interval | None
    t_p: float | None
    wilcoxon_p: float | None
    wins: float
    left_out: int = 0


def mean_of(*sets: Sequence[float]) -> Mean:
    """Mean with its 95 % interval by t. Values that are not finite are left out; ValueError if none remain."""
    groups = [values for values in map(_finite, sets) if values.size]
    if not groups:
        raise ValueError("no values")
    mean, error, freedom = _estimate(groups)
    return Mean(sum(g.size for g in groups), len(groups), mean, _t_interval(mean, error, freedom))


def difference(*sets: tuple[Sequence[float], Sequence[float]]) -> Difference:
    """First less second values of each data set, in the same order. ValueError if no pair is finite."""
    pairs = [np.subtract(_array(a), _array(b)) for a, b in sets]
    groups = [d for d in (values[np.isfinite(values)] for values in pairs) if d.size]
    if not groups:
        raise ValueError("no pairs of values")
    mean, error, freedom = _estimate(groups)
    weights = np.concatenate([np.full(g.size, 1 / (g.size * len(groups))) for g in groups])
    n = weights.size
    return Difference(
        n=n,
        sets=len(groups),
        mean=mean,
        t=_t_interval(mean, error, freedom),
        bootstrap=_bootstrap(groups),
        t_p=_t_test(mean, error, freedom),
        wilcoxon_p=_wilcoxon(np.concatenate(groups), weights),
        wins=float(weights @ ((np.sign(np.concatenate(groups)) + 1) / 2)),
        left_out=sum(values.size for values in pairs) - n,
    )


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given: the k-th smallest of m times m - k + 1, never falling.

    None stays None and does not count.
    """
    given = list(p_values)
    known = sorted((p, i) for i, p in enumerate(given) if p is not None)
    adjusted, highest = list(given), 0.0
    for place, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[i] = highest
    return adjusted


def need_scipy() -> Any:
    """scipy.stats. Raises UserError naming the extra where it is missing."""
    try:
        from scipy import stats
    except ImportError:
        raise UserError('intervals and tests need scipy: pip install "restorevar[eval]"') from None
    return stats


# ---------------------------------------------------------------------------------------------------- estimate


def _array(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = _array(values)
    return array[np.isfinite(array)]


def _estimate(groups: Sequence[np.ndarray]) -> tuple[float, float | None, float]:
    """Mean of means, its standard error, degrees of freedom; no error where a set has only one value."""
    mean = float(np.mean([g.mean() for g in groups]))
    if min(g.size for g in groups) < 2:
        return mean, None, 0.0
    parts = np.array([g.var(ddof=1) / g.size for g in groups]) / len(groups) ** 2
    total = float(parts.sum())
    if total == 0:
        return mean, 0.0, float(sum(g.size - 1 for g in groups))
    return mean, total**0.5, total**2 / float(sum(v**2 / (g.size - 1) for v, g in zip(parts, groups, strict=True)))


def _t_interval(mean: float, error: float | None, freedom: float) -> Interval | None:
    if error is None:
        return None
    reach = float(need_scipy().t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(mean - reach, mean + reach)


def _t_test(mean: float, error: float | None, freedom: float) -> float | None:
    """Two-sided. Values without any spread are certain."""
    if error is None:
        return None
    if error == 0:
        return 0.0 if mean else 1.0
    return float(2 * need_scipy().t.sf(abs(mean) / error, freedom))


def _bootstrap(groups: Sequence[np.ndarray]) -> Interval | None:
    if min(g.size for g in groups) < FEWEST:
        return None

    def mean_of_means(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return sum(sample.mean(axis=axis) for sample in samples) / len(samples)

    if all(np.ptp(g) == 0 for g in groups):
        mean = float(mean_of_means(*groups))
        return Interval(mean, mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BCa where nearly all values are equal; it gives NaN then
        for method in ("BCa", "percentile"):
            found = need_scipy().bootstrap(
                groups,
                mean_of_means,
                vectorized=True,
                paired=False,
                confidence_level=CONFIDENCE,
                n_resamples=RESAMPLES,
                batch=max(1, _DRAWN // sum(g.size for g in groups)),
                method=method,
                rng=np.random.default_rng(SEED),
            )
            low, high = map(float, found.confidence_interval)
            if np.isfinite(low) and np.isfinite(high):
                return Interval(low, high)
    return None


def _wilcoxon(values: np.ndarray, weights: np.ndarray) -> float | None:
    """Two-sided; differences of zero are dropped, as Wilcoxon did."""
    stats = need_scipy()
    told = values != 0
    if values.size < 2:
        return None
    if not told.any():
        return 1.0
    values, weights = values[told], weights[told]
    if np.ptp(weights) <= 1e-12 * weights.max():
        return float(stats.wilcoxon(values).pvalue)
    scores = weights * stats.rankdata(np.abs(values))
    z = abs(float(scores @ np.sign(values))) / float(np.sqrt(scores @ scores))
    return float(2 * stats.norm.sf(z))
