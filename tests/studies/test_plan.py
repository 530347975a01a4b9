from pathlib import Path

import pytest
import yaml

from clarity_cxr.errors import ConfigError
from clarity_cxr.evaluation.published import published_table
from clarity_cxr.studies.plan import read_plan

PLANS = sorted((Path(__file__).parents[2] / "configs/plans").glob("*.yaml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_shipped_plans_hold_table_6_and_the_literal_reading(path: Path) -> None:
    plan = read_plan(path)
    rows = set(published_table(6)["row"]) | {"the paper read literally"}
    assert next(iter(plan.variants)) == "full"
    assert rows - set(plan.variants) <= ({"ImageNet weights"} if path.stem == "demo" else set())
    assert plan.sweep is not None


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"config": 3, "seed": [1], "variants": [], "seeds": [1, 1]}))
    with pytest.raises(ConfigError) as caught:
        read_plan(path)
    for mistake in ("config: expected", "seed: unknown; known are config", "variants: expected", "seeds: expected"):
        assert mistake in str(caught.value)


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"config": "base.yaml", "seeds": [0], "variants": {"full": "other.yaml"}}))
    with pytest.raises(ConfigError, match=r"no such config: .*base\.yaml, .*other\.yaml"):
        read_plan(path)
