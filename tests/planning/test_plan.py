"""Plans against sums worked out by hand."""

from dataclasses import replace

import pytest

from clarity_cxr.errors import ConfigError
from clarity_cxr.models import create_model
from clarity_cxr.planning.constants import Constants
from clarity_cxr.planning.plan import Archive, Step, multiply_adds, plan

NIH = Archive(films=112_120, processes=2)


def steps_of(archive: Archive, constants: Constants) -> dict[str, Step]:
    return {step.name: step for step in plan(archive, constants)}


def test_sizes_of_the_nih_release() -> None:
    assert (NIH.training, NIH.validation, NIH.evaluated) == (75_312, 11_212, 36_808)
    assert NIH.logits_bytes == 200 * 75_312 * 14 * 2 == 421_747_200
    assert NIH.store_bytes == 112_120 * 224 * 224 == 5_625_733_120
    assert NIH.priors_bytes == 918_487_040
    assert Archive(1_121_200).training == 753_120


def test_steps_come_in_order(constants: Constants) -> None:
    names = [step.name for step in plan(NIH, constants)]
    assert names == ["check", "prepare", "anatomy", "teacher", "dump", "student", "evaluate", "predict"]


def test_hours_by_hand(constants: Constants) -> None:
    seconds = {name: 3600 * step.hours for name, step in steps_of(NIH, constants).items()}
    assert seconds["check"] == pytest.approx(112_120 / (2 * 10) + 112_120 / 40)
    assert seconds["prepare"] == pytest.approx(112_120 / (2 * 8) + 5_625_733_120 / 1e9 + 112_120 / 80)
    assert seconds["anatomy"] == pytest.approx(112_120 / 100)
    assert seconds["teacher"] == pytest.approx(100 * 75_312 / 2 + 100 * 11_212 / 5)
    assert seconds["dump"] == pytest.approx(200 * 75_312 / 5)
    assert seconds["student"] == pytest.approx(200 * 75_312 / 10 + 200 * 11_212 / 40)
    assert seconds["evaluate"] == pytest.approx(36_808 / 40)
    assert seconds["predict"] == pytest.approx(112_120 / 20)


def test_disk_by_hand(constants: Constants) -> None:
    disk = {name: step.disk_bytes for name, step in steps_of(NIH, constants).items()}
    assert disk["check"] == 0
    assert disk["prepare"] == 5_625_733_120
    assert disk["anatomy"] == 918_487_040
    assert disk["dump"] == 421_747_200
    assert disk["student"] == 16 * 27_027_774
    assert disk["evaluate"] == pytest.approx(36_808 * 14 * 5 + 880 * 8 * 14 * 14 * 4)
    assert disk["predict"] == 112_120 * 50_000


def test_memory_by_hand(constants: Constants) -> None:
    steps = steps_of(NIH, constants)
    assert steps["prepare"].host_bytes == 10**9 + 2 * 10**8 + 112_120 * 100
    training = 16 * 27_027_774 + 16 * 2e8
    assert steps["student"].host_bytes == 10**9 + 112_120 * 100 + training
    assert steps["student"].device_bytes == 0
    on_gpu = steps_of(NIH, replace(constants, device="cuda"))["student"]
    assert (on_gpu.host_bytes, on_gpu.device_bytes) == (10**9 + 112_120 * 100, training)


def test_devices_and_processes_share_the_work(constants: Constants) -> None:
    one, four = (steps_of(replace_counts(count), constants) for count in (1, 4))
    for name in one:
        parts = zip(one[name].parts, four[name].parts, strict=True)
        shared = [before.duration / after.duration for before, after in parts]
        assert shared[0] == pytest.approx(4), name
    assert four["prepare"].parts[1].duration == one["prepare"].parts[1].duration  # one process digests


def replace_counts(count: int) -> Archive:
    return Archive(films=112_120, devices=count, processes=count)


def test_the_slowest_resource_is_named(constants: Constants) -> None:
    fast = steps_of(NIH, replace(constants, device="cuda"))
    assert fast["check"].bottleneck == "processors: decode"
    assert fast["student"].bottleneck == "device: training steps"
    slow = steps_of(NIH, replace(constants, disk_read_bytes=1e6))
    assert slow["check"].bottleneck == "disk: decode"
    assert 3600 * slow["check"].hours == pytest.approx(2 * 112_120 * 400_000 / 1e6)


def test_a_store_larger_than_the_memory_is_read_every_epoch(constants: Constants) -> None:
    ten_million = Archive(10_000_000)
    stored = 10_000_000 * (224 * 224 + 8192) * ten_million.training / 10_000_000
    small = steps_of(NIH, constants)["student"].parts[0].seconds["disk"]
    large = steps_of(ten_million, constants)["student"].parts[0].seconds["disk"]
    assert small == pytest.approx((5_625_733_120 + 918_487_040) * 75_312 / 112_120 / 1e8)
    assert large == pytest.approx(200 * stored / 1e8)


def test_another_size_costs_what_the_models_cost(constants: Constants) -> None:
    tiny = replace(constants, model="clarity_t8_64", teacher="test_convnext", size=64)
    own, larger = (steps_of(Archive(1000, size=size), tiny) for size in (64, 128))
    growth = multiply_adds(create_model("clarity_t8_64", image_size=128), 128) / multiply_adds(
        create_model("clarity_t8_64"), 64
    )
    assert 4 < growth < 8
    assert larger["student"].hours / own["student"].hours == pytest.approx(growth)
    assert larger["dump"].hours / own["dump"].hours == pytest.approx(4, rel=0.05)
    extra = 1000 / tiny.forward_films * (growth - 1)
    assert 3600 * (larger["predict"].hours - own["predict"].hours) == pytest.approx(extra)
    assert larger["prepare"].disk_bytes == 4 * own["prepare"].disk_bytes


def test_multiply_adds_of_the_papers_student() -> None:
    """5.99 G with the background pass, which only training makes."""
    assert 5.9e9 < multiply_adds(create_model("clarity_s16_224"), 224) < 5.99e9


def test_impossible_archives_are_refused() -> None:
    with pytest.raises(ConfigError, match="films 0, devices -1: expected 1 or more"):
        Archive(0, devices=-1)
