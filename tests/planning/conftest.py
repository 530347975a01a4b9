"""Constants of a machine whose every rate is a round number."""

import pytest

from clarity_cxr.planning.constants import Constants


@pytest.fixture
def constants() -> Constants:
    return Constants(
        date="2026-11-23T00:00:00+00:00",
        machine={"processor": "round", "cores": 2},
        versions={},
        device="cpu",
        processes=2,
        size=224,
        batch_size=16,
        model="clarity_s16_224",
        teacher="convnextv2_base",
        compiled=False,
        dump_precision="float32",
        model_parameters=27_027_774,
        teacher_parameters=90_000_000,
        memory_bytes=24 * 10**9,
        film_bytes=400_000.0,
        index_bytes=100.0,
        prediction_bytes=50_000.0,
        base_bytes=10**9,
        worker_bytes=10**8,
        training_bytes=2e8,
        teacher_training_bytes=3e8,
        float32_multiply_adds=1e11,
        bfloat16_multiply_adds=2e11,
        copied_bytes=1e10,
        disk_written_bytes=1e8,
        disk_read_bytes=1e8,
        digested_bytes=1e9,
        decoded_films=10.0,
        resized_films=8.0,
        checked_files=40.0,
        checked_films=80.0,
        segmented_films=100.0,
        training_films=10.0,
        forward_films=40.0,
        teacher_training_films=2.0,
        dumped_films=5.0,
        predicted_films=20.0,
    )
