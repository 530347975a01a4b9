from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clarity_cxr.anatomy.film_check import (
    FilmCheck,
    check_files,
    check_film,
    check_films,
    check_store,
    film_warnings,
    implausibilities,
)
from clarity_cxr.cli.check import check
from clarity_cxr.cli.prepare import prepare
from clarity_cxr.data.images import read_film, resize_film
from clarity_cxr.data.phantom import PhantomConfig, draw_films
from clarity_cxr.data.store import open_store
from tests.anatomy.shapes import drawn_organs, ellipse

NIH = Path(__file__).parents[2] / "../shared/data/nih_subset"


def test_upright_phantoms_pass_and_turned_or_inverted_ones_do_not():
    films = draw_films(PhantomConfig(films=60, size=96), np.arange(40)).films
    passed = [check.passed for check in check_films(films)]
    assert np.mean(passed) > 0.8
    assert not any(check.passed for check in check_films(255 - films))
    for quarter_turns in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(films, quarter_turns, axes=(1, 2)))
        assert np.mean([check.passed for check in check_films(turned)]) < 0.1


@pytest.mark.skipif(not NIH.is_dir(), reason="needs ../shared/data/nih_subset")
def test_real_films_pass_and_turned_or_inverted_ones_are_named():
    test_list = (NIH / "test_list.txt").read_text().split()
    paths = [NIH / "images" / name.replace(".png", ".jpg") for name in test_list]
    films = np.stack([resize_film(read_film(path), 224) for path in [path for path in paths if path.exists()][:60]])
    assert sum(not check.passed for check in check_films(films)) <= 3
    for changed, word in (
        (np.rot90(films, 1, axes=(1, 2)), "90 degrees counter-clockwise"),
        (np.rot90(films, 2, axes=(1, 2)), "180 degrees"),
        (np.rot90(films, 3, axes=(1, 2)), "90 degrees clockwise"),
        (255 - films, "inverted"),
    ):
        named = [
            any(word in reason for reason in check.reasons) for check in check_films(np.ascontiguousarray(changed))
        ]
        assert np.mean(named) >= 0.9


def test_noise_gradients_and_blank_pictures_are_no_chest_films():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (224, 224), dtype=np.uint8)
    gradient = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    chequers = (np.indices((224, 224)).sum(axis=0) // 28 % 2 * 255).astype(np.uint8)
    for picture in (noise, gradient, gradient.T.copy(), chequers):
        assert not check_film(picture).passed
    blank = check_film(np.full((50, 60), 9, dtype=np.uint8))
    assert blank == FilmCheck(0.0, ("blank: all pixels are equal",))


def test_a_photograph_is_no_chest_film():
    matplotlib = pytest.importorskip("matplotlib")
    photograph = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    assert check_film(read_film(photograph)).reasons == ("not a frontal chest film",)


def test_plausible_masks_have_no_reasons_and_odd_ones_are_named():
    left, right, heart = drawn_organs()
    nothing = np.zeros_like(heart)
    assert implausibilities(np.stack([left, right, heart])) == []
    for organs, word in (
        ([nothing, nothing, nothing], "no lungs"),
        ([nothing, right, heart], "the left lung is missing"),
        ([left, nothing, heart], "the right lung is missing"),
        ([right, left, heart], "each other's side"),
        ([np.roll(left, 30, axis=1) | left, right, heart], "right edge"),
        ([ellipse(128, (0.6, 0.5), (0.04, 0.1)), ellipse(128, (0.4, 0.5), (0.04, 0.1)), heart], "very small"),
    ):
        assert any(word in reason for reason in implausibilities(np.stack(organs))), word


def test_lungs_cut_off_at_the_top_are_named():
    organs = np.roll(drawn_organs(), -50, axis=1)
    organs[:, -50:] = False
    assert implausibilities(organs) == ["lungs cut off at the top"]


def test_doubtful_films_of_a_store_and_a_folder_are_listed(store: Path, release: Path):
    films = open_store(store)
    names = films.index["image_id"].tolist()
    array = np.load(store / "films.npy", mmap_mode="r+")
    array[4] = array[4][::-1]
    array[9] = 255 - array[9]
    array.flush()
    failed = check_store(open_store(store))
    assert {names[4], names[9]} <= failed.keys()
    assert len(failed) < 10
    table = pd.read_csv(store / "film_check.csv").set_index("image_id")
    assert table.index.tolist() == list(failed)
    assert table.loc[names[4], "reasons"] == "; ".join(failed[names[4]].reasons)
    array[5] = 255 - array[5]
    array.flush()
    again = check_store(open_store(store))
    assert again == failed, "the second call reads what the first has written"
    paths = sorted(release.glob("images*/**/*.png"))
    paths[0].write_bytes(b"")
    failed_files = check_files(paths)
    assert str(paths[0]) not in failed_files, "unreadable films are reported elsewhere"


def test_warnings_name_the_most_doubtful_first():
    assert film_warnings({}, 10) == []
    failed = {f"f{k}": FilmCheck(k / 10, ("rotated by 180 degrees",)) for k in (3, 1, 2)}
    lines = film_warnings(failed, 1200, shown=2)
    assert lines == [
        "3 of 1,200 films may not be whole upright frontal chest films:",
        "  f1: rotated by 180 degrees (score 0.10)",
        "  f2: rotated by 180 degrees (score 0.20)",
        "  and 1 more",
    ]


def test_check_and_prepare_warn_of_an_inverted_film_and_fail_if_strict(release: Path, tmp_path: Path, capsys):
    film = sorted(release.glob("images*/**/*.png"))[7]
    Image.fromarray(255 - read_film(film)).save(film)
    assert check(release, processes=1) == 0
    assert f"{film.relative_to(release)}: grey scale inverted" in capsys.readouterr().out.replace("\n", "")
    assert check(release, processes=1, strict=True) == 1
    assert check(release, processes=1, strict=True, fast=True) == 0, "headers do not tell"

    out = tmp_path / "out"
    assert prepare(release, out=out, size=64, processes=1) == 0
    warned = capsys.readouterr().err
    assert f"{film.name}: grey scale inverted" in warned
    assert str(out / "film_check.csv") in warned
    assert prepare(release, out=out, size=64, processes=1, strict=True) == 1
    assert prepare(release, out=out, size=64, processes=1, strict=True, film_check=False) == 0
