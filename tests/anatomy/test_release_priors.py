from pathlib import Path

import numpy as np
import pytest

from clarity_cxr.anatomy.regions import pack_priors
from clarity_cxr.anatomy.release_priors import write_release_priors
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.release import read_release, stem_of
from clarity_cxr.errors import ReleaseError
from clarity_cxr.shards import Shard
from tests.anatomy.shapes import CornerProvider


def expected_priors(release: Path) -> np.ndarray:
    films = read_release(release).films
    pixels = np.stack([resize_film(read_film(release / path), 32) for path in films["path"]])
    return pack_priors(CornerProvider().regions(pixels, films["image_id"].tolist()))


def test_prepare_packs_what_the_pass_wrote(release: Path, tmp_path: Path):
    result = write_release_priors(release, CornerProvider(), batch_size=6)
    assert (result.written, result.kept, result.unreadable) == (20, 0, [])
    store = prepare(release, tmp_path / "store", size=32, processes=1)
    assert np.array_equal(store.priors, expected_priors(release))


def test_files_that_are_there_are_kept(release: Path):
    write_release_priors(release, CornerProvider())
    names = [stem_of(name) for name in read_release(release).films["image_id"]]
    (release / "priors" / f"{names[3]}.png").unlink()
    again = CornerProvider()
    result = write_release_priors(release, again)
    assert (result.written, result.kept, again.seen) == (1, 19, 1)


def test_priors_of_another_provider_are_replaced_only_when_asked(release: Path):
    write_release_priors(release, CornerProvider())
    other = CornerProvider(weights_digest="1" * 64)
    with pytest.raises(ReleaseError, match="--replace"):
        write_release_priors(release, other)
    assert write_release_priors(release, other, replace=True).written == 20


def test_a_broken_film_is_reported_and_the_others_are_done(release: Path):
    path = release / read_release(release).films["path"].iloc[5]
    path.write_bytes(path.read_bytes()[:100])
    result = write_release_priors(release, CornerProvider(), processes=2)
    assert result.written == 19
    assert len(result.unreadable) == 1
    assert path.name in result.unreadable[0]


def test_shards_share_a_release(release: Path):
    provider = CornerProvider()
    done = [write_release_priors(release, provider, shard=Shard(number, 3)) for number in (2, 3, 1)]
    assert [result.written for result in done] == [7, 7, 6]
    assert write_release_priors(release, provider).kept == 20
    assert provider.seen == 20
