"""Shares of a job: none twice, none missing, and one way to write them."""

import pytest

from clarity_cxr.errors import ConfigError
from clarity_cxr.shards import WHOLE, Shard, parse_shard


@pytest.mark.parametrize(("total", "count"), [(0, 3), (2, 5), (7, 1), (100, 7)])
def test_shards_cover_everything_once_and_are_equal(total: int, count: int) -> None:
    shares = [range(total)[Shard(number, count).of(total)] for number in range(1, count + 1)]
    assert [piece for share in shares for piece in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_are_counted_from_one() -> None:
    assert parse_shard("1/4") == Shard(1, 4)
    assert parse_shard("4/4") == Shard(4, 4)
    assert parse_shard(None) == WHOLE == parse_shard("1/1")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "/4", "-1/4", "a/b", "1/4/2", "1.0/4"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ConfigError, match="expected I/N with I from 1 to N"):
        parse_shard(text)
