import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clarity_cxr.anatomy import store_priors
from clarity_cxr.anatomy.regions import pack_priors
from clarity_cxr.anatomy.store_priors import verify_priors, write_shard_priors, write_store_priors
from clarity_cxr.data.store import open_store
from clarity_cxr.errors import ClarityError, StoreError
from clarity_cxr.files import file_digest
from clarity_cxr.shards import Shard
from tests.anatomy.shapes import CornerProvider

PROJECT = Path(__file__).parents[2]
SLOW_PASS = """
import sys, time
from pathlib import Path
from clarity_cxr.anatomy.store_priors import write_store_priors
from tests.anatomy.shapes import CornerProvider

class Slow(CornerProvider):
    def regions(self, films, image_ids=()):
        time.sleep(0.05)
        return super().regions(films, image_ids)

write_store_priors(Path(sys.argv[1]), Slow(log=Path(sys.argv[2])), batch_size=1)
"""


def expected_priors(path: Path) -> np.ndarray:
    films = np.array(open_store(path).films)
    return pack_priors(CornerProvider().regions(films, ["x"] * len(films)))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_store_gets_the_priors_of_its_films(store: Path, batch_size: int):
    result = write_store_priors(store, CornerProvider(), batch_size)
    assert result.priors is not None
    assert np.array_equal(result.priors, expected_priors(store))
    entry = result.manifest["priors"]
    assert entry["provider"] == "corner"
    assert entry["weights"] == "0" * 64
    assert entry["threshold"] == 0.5
    assert entry["film_digest"] == result.manifest["film_digest"]
    assert entry["digest"] == file_digest(store / "priors.npy")
    assert (entry["films"], entry["without_lungs"]) == (20, 0)
    names = {path.name for path in store.iterdir()}
    assert names == {"manifest.json", "films.npy", "index.parquet", "boxes.parquet", "priors.npy"}
    verify_priors(result)


def test_the_same_pass_again_does_nothing(store: Path):
    write_store_priors(store, CornerProvider())
    again = CornerProvider()
    write_store_priors(store, again)
    assert again.seen == 0


def test_other_priors_are_replaced_only_when_asked(store: Path):
    write_store_priors(store, CornerProvider())
    other = CornerProvider(weights_digest="1" * 64)
    with pytest.raises(StoreError, match="--replace"):
        write_store_priors(store, other)
    assert other.seen == 0
    assert write_store_priors(store, other, replace=True).manifest["priors"]["weights"] == "1" * 64
    assert other.seen == 20


def test_films_without_lungs_are_counted(store: Path):
    class Blind(CornerProvider):
        def regions(self, films, image_ids=()):
            masks = super().regions(films, image_ids)
            masks[::2] = False
            return masks

    assert write_store_priors(store, Blind(), batch_size=4).manifest["priors"]["without_lungs"] == 10


def test_a_killed_pass_continues_without_recomputing(store: Path, tmp_path: Path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW_PASS, str(store), str(log)]
    with subprocess.Popen(command, cwd=PROJECT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while not log.exists() or len(log.read_text().split()) < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert open_store(store).priors is None, "unfinished priors are not used"
    begun = len(log.read_text().split())
    rest = CornerProvider()
    result = write_store_priors(store, rest, batch_size=4)
    assert 20 - begun <= rest.seen <= 20 - begun + 1, "only the film in hand at the kill is done again"
    assert np.array_equal(result.priors, expected_priors(store))


@pytest.mark.parametrize("stop_at", ["replace", "manifest"])
def test_a_pass_killed_between_its_last_steps_ends_with_the_same_store(
    store: Path, monkeypatch: pytest.MonkeyPatch, stop_at: str
):
    class Stopped(BaseException):
        pass

    def stop(*arguments: object, **options: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        if stop_at == "replace":
            patch.setattr(store_priors, "_publish", stop)
        else:
            patch.setattr(store_priors, "write_json", stop)
        with pytest.raises(Stopped):
            write_store_priors(store, CornerProvider())
    again = CornerProvider()
    result = write_store_priors(store, again)
    assert again.seen == 0
    assert np.array_equal(result.priors, expected_priors(store))


def test_an_interrupted_pass_of_other_weights_begins_anew(store: Path):
    class Failing(CornerProvider):
        def regions(self, films, image_ids=()):
            if self.seen == 8:
                raise ClarityError("film 8")
            return super().regions(films, image_ids)

    with pytest.raises(ClarityError, match="film 8"):
        write_store_priors(store, Failing(), batch_size=4)
    other = CornerProvider(weights_digest="1" * 64)
    result = write_store_priors(store, other, batch_size=4)
    assert other.seen == 20
    assert np.array_equal(result.priors, expected_priors(store))


def test_two_passes_at_once_are_refused(store: Path):
    class Nested(CornerProvider):
        def regions(self, films, image_ids=()):
            with pytest.raises(StoreError, match="another process"):
                write_store_priors(store, CornerProvider())
            return super().regions(films, image_ids)

    write_store_priors(store, Nested())


def test_missing_priors_are_refused_with_the_command(store: Path):
    with pytest.raises(StoreError, match=r"no anatomical priors.*clarity anatomy"):
        verify_priors(open_store(store))


def test_priors_of_other_films_are_refused(store: Path, tmp_path: Path):
    write_store_priors(store, CornerProvider())
    other = Path(shutil.copytree(store, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["film_digest"] = "f" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"made from other films.*clarity anatomy"):
        verify_priors(open_store(other))


def test_an_exchanged_priors_file_is_refused(store: Path):
    write_store_priors(store, CornerProvider())
    array = np.load(store / "priors.npy")
    np.save(store / "priors.npy", array[::-1])
    with pytest.raises(StoreError, match="not the file that the manifest describes"):
        verify_priors(open_store(store))


def test_priors_that_came_with_the_release_are_accepted(release: Path, tmp_path: Path):
    from clarity_cxr.anatomy.release_priors import write_release_priors
    from clarity_cxr.data.prepare import prepare

    write_release_priors(release, CornerProvider())
    verify_priors(prepare(release, tmp_path / "store", size=32, processes=1))


def test_shards_in_any_order_end_as_one_pass(store: Path, tmp_path: Path):
    alone = Path(shutil.copytree(store, tmp_path / "alone"))
    expected = write_store_priors(alone, CornerProvider())
    provider = CornerProvider()
    assert write_shard_priors(store, provider, Shard(3, 3), 4) is None
    assert write_shard_priors(store, provider, Shard(1, 3), 2) is None
    assert open_store(store).priors is None, "unfinished priors are not used"
    assert write_shard_priors(store, provider, Shard(1, 3), 4) is None
    result = write_shard_priors(store, provider, Shard(2, 3), 4)
    assert result is not None
    assert provider.seen == 20
    assert result.manifest == expected.manifest
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {
        path.name: path.read_bytes() for path in alone.iterdir()
    }


def test_a_late_shard_keeps_what_the_others_have_replaced(store: Path):
    write_store_priors(store, CornerProvider())
    other = CornerProvider(weights_digest="1" * 64)
    with pytest.raises(StoreError, match="--replace"):
        write_shard_priors(store, other, Shard(1, 2))
    assert write_shard_priors(store, other, Shard(2, 2), replace=True) is None
    assert open_store(store).manifest["priors"]["weights"] == "0" * 64, "the old ones hold until the new ones are whole"
    assert write_shard_priors(store, other, Shard(1, 2), replace=True) is not None
    write_shard_priors(store, other, Shard(2, 2), replace=True)
    assert other.seen == 20
    assert open_store(store).manifest["priors"]["weights"] == "1" * 64


def test_a_shard_of_other_weights_is_refused_while_one_is_at_work(store: Path):
    class Nested(CornerProvider):
        def regions(self, films, image_ids=()):
            with pytest.raises(StoreError, match="another process is making other priors"):
                write_shard_priors(store, CornerProvider(weights_digest="1" * 64), Shard(2, 2))
            return super().regions(films, image_ids)

    assert write_shard_priors(store, Nested(), Shard(1, 2)) is None
