"""Intervals and tests: scipy's own on one data set, values by hand, and what is to hold of several."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from restorevar.evaluation.statistics import difference, holm, mean_of

RNG = np.random.default_rng(7)
A, B = RNG.normal(25, 3, 40), RNG.normal(24, 3, 40)


def test_mean_and_interval_of_known_values():
    found = mean_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.n, found.sets, found.mean) == (5, 1, 3.0)
    # s = sqrt(2.5), t(0.975, 4) = 2.7764: tables of the t distribution
    assert found.interval is not None and found.interval.half == pytest.approx(2.7764 * (2.5 / 5) ** 0.5, rel=1e-4)
    assert mean_of([4.0]).interval is None
    assert mean_of([1.0, float("inf"), 3.0]).n == 2
    with pytest.raises(ValueError, match="no values"):
        mean_of([float("nan")])


def test_one_data_set_is_scipys_paired_test():
    found, known = difference((A, B)), stats.ttest_rel(A, B)
    assert found.t_p == pytest.approx(known.pvalue, rel=1e-9)
    assert (found.t.low, found.t.high) == pytest.approx(tuple(known.confidence_interval()), rel=1e-9)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(A, B).pvalue, rel=1e-9)
    assert found.bootstrap.low == pytest.approx(found.t.low, abs=0.25)
    assert found.bootstrap.high == pytest.approx(found.t.high, abs=0.25)
    assert found.wins == pytest.approx(np.mean(A > B))


def test_the_bootstrap_is_the_same_every_time_and_knows_skew():
    skewed = RNG.exponential(1, 30) ** 2
    found = difference((skewed, np.zeros(30)))
    assert found == difference((skewed, np.zeros(30)))
    assert found.bootstrap.high - found.mean > found.mean - found.bootstrap.low


def test_data_sets_count_alike_however_large():
    small, large = np.array([4.0, 4.1, 3.9]), RNG.normal(0, 0.01, 3000)
    zeros = np.zeros(3000)
    found = difference((small, zeros[:3]), (large, zeros))
    assert found.mean == pytest.approx(2.0, abs=0.01) and found.sets == 2 and found.n == 3003
    assert mean_of(small, large).mean == pytest.approx(2.0, abs=0.01)
    # The spread of the small set decides: half of its own interval.
    alone = difference((small, zeros[:3]))
    assert found.t.half == pytest.approx(alone.t.half / 2, rel=0.05)
    # Equal sizes are the plain mean of all.
    equal = difference((A[:20], B[:20]), (A[20:], B[20:]))
    assert equal.mean == pytest.approx(np.mean(A - B))
    assert equal.wilcoxon_p == pytest.approx(stats.wilcoxon(A, B).pvalue)


def test_weighted_signed_rank_is_the_usual_one_when_weights_hardly_differ():
    """Sizes 200 and 201 differ by half a per cent, so must the statistic from scipy's approximation."""
    d = RNG.normal(0.1, 1, 401)
    found = difference((d[:200], np.zeros(200)), (d[200:], np.zeros(201)))
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(d, method="asymptotic").pvalue, rel=0.05)


def test_weighted_tests_err_as_often_as_they_say():
    """Under no difference, one in twenty p values is below 0.05: three sets of different sizes and spreads."""
    rng, below = np.random.default_rng(1), np.zeros(2)
    for _ in range(400):
        sets = [(rng.normal(0, s, n), np.zeros(n)) for n, s in ((8, 3.0), (30, 1.0), (60, 0.5))]
        found = _without_bootstrap(sets)
        below += np.array([found.t_p, found.wilcoxon_p]) < 0.05
    assert np.all(below / 400 < 0.085) and np.all(below / 400 > 0.02)


def _without_bootstrap(sets):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("restorevar.evaluation.statistics._bootstrap", lambda groups: None)
        return difference(*sets)


def test_few_and_equal_values():
    one = difference(([1.0], [0.5]))
    assert one.mean == 0.5 and (one.t, one.bootstrap, one.t_p, one.wilcoxon_p) == (None, None, None, None)
    assert difference((A[:4], B[:4])).t is not None and difference((A[:4], B[:4])).bootstrap is None
    same = difference((A, A))
    assert same.t_p == same.wilcoxon_p == 1.0 and same.wins == pytest.approx(0.5)
    assert same.bootstrap.low == same.bootstrap.high == 0
    sure = difference((np.full(5, 2.0), np.ones(5)))
    assert sure.t_p == 0.0 and sure.bootstrap.half == 0
    left = difference(([1.0, float("inf"), 2.0], [0.0, 1.0, 0.5]))
    assert left.n == 2 and left.left_out == 1


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06 is not below 0.06, then max(0.06, 0.5)
    assert holm([0.5, 0.01, None, 0.03, 0.02]) == pytest.approx([0.5, 0.04, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == [] and holm([None]) == [None]
