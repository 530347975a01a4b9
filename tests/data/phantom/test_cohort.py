"""Patients, labels and splits of phantom releases."""

import numpy as np
import pytest

from clarity_cxr.data.phantom import PhantomConfig
from clarity_cxr.data.phantom.cohort import NIH_PREVALENCE, draw_cohort, prevalences
from clarity_cxr.errors import ConfigError
from clarity_cxr.findings import FINDINGS


@pytest.fixture(scope="module")
def nih():
    return draw_cohort(PhantomConfig(films=40_000, rarity=1.0, seed=2))


def test_rarity_one_gives_the_frequencies_of_the_real_release(nih):
    shares = nih[list(FINDINGS)].mean()
    for name, share in NIH_PREVALENCE.items():
        # Follow-ups are correlated, so the spread is about three times the binomial one.
        assert shares[name] == pytest.approx(share, abs=4 * 3 * np.sqrt(share / 40_000))
    assert 0.50 < 1 - nih[list(FINDINGS)].any(axis=1).mean() < 0.58


def test_rarity_zero_makes_all_findings_equally_common():
    np.testing.assert_allclose(prevalences(0.0), 0.13)
    shares = draw_cohort(PhantomConfig(films=20_000, rarity=0.0))[list(FINDINGS)].mean()
    assert shares.between(0.11, 0.15).all()


def test_rarity_orders_the_findings():
    between = prevalences(0.5)
    assert FINDINGS[between.argmin()] == "Hernia"
    assert FINDINGS[between.argmax()] == "Infiltration"
    assert (between.max() / between.min()) ** 2 == pytest.approx(0.177 / 0.002)


@pytest.mark.parametrize(
    ("first", "second"), [("Effusion", "Atelectasis"), ("Edema", "Cardiomegaly"), ("Emphysema", "Pneumothorax")]
)
def test_related_findings_occur_together(nih, first, second):
    lift = (nih[first] & nih[second]).mean() / (nih[first].mean() * nih[second].mean())
    assert lift > 1.5


def test_findings_persist_across_follow_ups(nih):
    again = nih.groupby("patient_id")["Effusion"].shift(1)
    known = nih[again.notna()]
    assert (
        known.loc[again[again.notna()] == 1, "Effusion"].mean()
        > 3 * known.loc[again[again.notna()] == 0, "Effusion"].mean()
    )


def test_no_patient_is_in_both_parts_and_about_a_fifth_is_in_test(nih):
    assert (nih.groupby("patient_id")["official"].nunique() == 1).all()
    assert (nih["official"] == "test").mean() == pytest.approx(0.22, abs=0.02)


@pytest.mark.parametrize("films", [12, 40])
def test_even_a_tiny_release_has_both_parts(films):
    assert set(draw_cohort(PhantomConfig(films=films))["official"]) == {"train_val", "test"}


def test_follow_ups_count_up_from_zero_and_nobody_grows_younger(nih):
    for _, films in nih.head(2000).groupby("patient_id"):
        assert films["follow_up"].tolist() == list(range(len(films)))
        assert films["age"].is_monotonic_increasing
        assert films["sex"].nunique() == 1
    assert nih["age"].between(17, 100).all()
    assert nih["image_id"].is_unique
    assert 3.2 < len(nih) / nih["patient_id"].nunique() < 4.0


def test_the_spurious_marker_follows_its_finding():
    config = PhantomConfig(films=20_000, spurious_finding="Nodule", spurious_strength=0.8)
    table = draw_cohort(config)
    rates = table.groupby("Nodule")["spurious"].mean()
    assert rates[True] == pytest.approx(0.8, abs=0.04)
    assert rates[False] == pytest.approx(0.2, abs=0.02)
    assert not draw_cohort(PhantomConfig(films=100))["spurious"].any()


def test_all_mistakes_in_a_configuration_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        PhantomConfig(films=0, size=2000, seed=-1, rarity=1.5, spurious_finding="Cough")
    for word in ("films is 0", "size is 2000", "seed is -1", "rarity is 1.5", "'Cough'"):
        assert word in str(caught.value)
