"""Reading a release: layout, spellings, and one clear error for each way a table can be wrong."""

from pathlib import Path

import pytest

from clarity_cxr.data.release import find_priors, inspect_release, read_release
from clarity_cxr.errors import ReleaseError
from clarity_cxr.findings import FINDINGS
from tests.data.conftest import HEADER, REAL_RELEASE, SmallRelease


def test_reads_rows_labels_lists_and_films(small_release: SmallRelease) -> None:
    root = small_release.write()

    release = read_release(root)

    films = release.films
    assert films["image_id"].tolist() == small_release.ids
    first = films.iloc[0]
    assert (first["patient_id"], first["follow_up"], first["age"], first["sex"], first["view"]) == (1, 0, 31, "F", "PA")
    assert films["official"].tolist() == ["train_val" if patient <= 20 else "test" for patient in films["patient_id"]]
    assert all((root / path).name == name for path, name in zip(films["path"], films["image_id"], strict=True))
    for row, labels in zip(small_release.rows, films[list(FINDINGS)].to_numpy(), strict=True):
        named = set(row.split(",")[1].split("|")) - {"No Finding"}
        assert {finding for finding, positive in zip(FINDINGS, labels, strict=True) if positive} == named


def test_boxes_are_half_open_corners_and_infiltrate_is_infiltration(small_release: SmallRelease) -> None:
    boxes = read_release(small_release.write()).boxes

    assert len(boxes) == len(small_release.boxes)
    assert boxes[["x0", "y0", "x1", "y1"]].iloc[0].tolist() == pytest.approx([102.4, 204.8, 409.6, 716.8])
    assert "Infiltration" in set(boxes["finding"])
    assert "Infiltrate" not in set(boxes["finding"])


def test_a_box_that_touches_the_edge_by_rounding_is_cut_to_the_frame(small_release: SmallRelease) -> None:
    image_id = small_release.test[0]
    small_release.boxes = [f"{image_id},Mass,-0.4,900,200,124.6,,,"]

    boxes = read_release(small_release.write()).boxes

    assert boxes[["x0", "y0", "x1", "y1"]].iloc[0].tolist() == pytest.approx([0, 900, 199.6, 1024])


def test_the_older_table_with_trailing_commas_and_ages_in_units(small_release: SmallRelease) -> None:
    ages = {"058Y": 58, "006M": 0.5, "073D": 73 / 365.25, "45": 45}
    rows = [row.split(",") for row in small_release.rows[: len(ages)]]
    for row, age in zip(rows, ages, strict=True):
        row[4] = age
    small_release.rows[: len(ages)] = [",".join(row) for row in rows]
    small_release.rows = [row + "," for row in small_release.rows]
    root = small_release.write()
    (root / "Data_Entry_2017_v2020.csv").unlink()
    (root / "Data_Entry_2017.csv").write_text("\r\n".join([HEADER + ",", *small_release.rows]))

    films = read_release(root).films

    assert films["age"].iloc[: len(ages)].tolist() == pytest.approx(list(ages.values()))


def test_of_two_tables_the_newer_is_read(small_release: SmallRelease) -> None:
    root = small_release.write()
    (root / "Data_Entry_2017.csv").write_text("not,this,one\n1,2,3\n")

    assert len(read_release(root).films) == len(small_release.rows)


def test_films_are_found_at_any_nesting_and_as_jpeg(small_release: SmallRelease) -> None:
    root = small_release.write()
    moved, renamed = small_release.ids[:2]
    deep = root / "images_003/a/b"
    deep.mkdir(parents=True)
    small_release.film_path(moved).rename(deep / moved)
    film = small_release.film_path(renamed)
    film.rename(film.with_suffix(".JPG"))
    (deep / f"._{moved}").touch()

    films = read_release(root).films.set_index("image_id")

    assert films.at[moved, "path"] == f"images_003/a/b/{moved}"
    assert films.at[renamed, "path"].endswith("/00000001_001.JPG")


def test_a_release_may_use_part_of_the_lists_and_lack_films(small_release: SmallRelease) -> None:
    dropped = small_release.rows.pop(0).split(",")[0]
    root = small_release.write()
    small_release.film_path(small_release.ids[0]).unlink()

    inspection = inspect_release(root)

    assert inspection.problems == []
    assert inspection.unused_entries == 1
    assert [Path(path).name for path in inspection.orphans] == [dropped]
    assert inspection.release.films["path"].iloc[0] == ""
    assert inspection.original_sizes[0].tolist() == [2500, 2048]


def test_a_release_without_boxes(small_release: SmallRelease) -> None:
    small_release.boxes = []

    assert len(read_release(small_release.write()).boxes) == 0


@pytest.mark.parametrize(
    "name", ["Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"]
)
def test_a_missing_table_or_list_is_named(small_release: SmallRelease, name: str) -> None:
    root = small_release.write()
    (root / name).unlink()

    with pytest.raises(ReleaseError, match=name.split("_v2020")[0]):
        read_release(root)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no such folder"):
        read_release(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", ["00000030_000.png,No Fin", "00000030_000.png,Nodule,0,30,60,F,PA,2500,2"])
def test_a_table_cut_off_in_its_last_line(small_release: SmallRelease, keep: str) -> None:
    small_release.rows[-1] = keep
    root = small_release.write()

    with pytest.raises(ReleaseError, match=rf"v2020.csv, line {len(small_release.rows) + 1}: .*truncated"):
        read_release(root)


@pytest.mark.parametrize("content", ["", HEADER, HEADER + "\n"])
def test_a_table_cut_off_before_its_rows(small_release: SmallRelease, content: str) -> None:
    root = small_release.write()
    (root / "Data_Entry_2017_v2020.csv").write_text(content)

    with pytest.raises(ReleaseError, match="no rows below the header"):
        read_release(root)


def test_a_table_without_a_column(small_release: SmallRelease) -> None:
    root = small_release.write()
    path = root / "Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text().replace("Patient ID", "Patient"))

    with pytest.raises(ReleaseError, match="line 1: no column 'Patient ID'"):
        read_release(root)


@pytest.mark.parametrize(("column", "value"), [(0, "00000003_000"), (2, "x"), (3, ""), (3, "1.5"), (4, "old"), (4, "")])
def test_a_broken_row_is_named_by_its_line(small_release: SmallRelease, column: int, value: str) -> None:
    cells = small_release.rows[3].split(",")
    cells[column] = value
    small_release.rows[3] = ",".join(cells)

    with pytest.raises(ReleaseError, match=r"v2020.csv, line 5: expected"):
        read_release(small_release.write())


def test_a_row_with_too_many_fields_is_named_by_its_line(small_release: SmallRelease) -> None:
    small_release.rows[3] += ",1,2,3"

    with pytest.raises(ReleaseError, match="line 5"):
        read_release(small_release.write())


def test_a_table_that_is_not_text(small_release: SmallRelease) -> None:
    root = small_release.write()
    (root / "Data_Entry_2017_v2020.csv").write_bytes(bytes(range(128, 256)) + b"\n\xff\xfe")

    with pytest.raises(ReleaseError, match="not a readable CSV"):
        read_release(root)


def test_an_unknown_finding_and_how_many_other_errors_there_are(small_release: SmallRelease) -> None:
    small_release.rows[0] = small_release.rows[0].replace("Effusion", "Effusion|Broken Rib")
    small_release.rows[2] = small_release.rows[2].replace("Atelectasis|Mass", "No Finding|Mass")
    root = small_release.write()

    with pytest.raises(ReleaseError, match=r"unknown finding 'Broken Rib'.*\(1 more; `clarity check"):
        read_release(root)
    assert [problem.kind for problem in inspect_release(root).problems] == ["unknown finding", "contradictory label"]


def test_a_repeated_row(small_release: SmallRelease) -> None:
    small_release.rows.append(small_release.rows[0])

    with pytest.raises(ReleaseError, match=r"00000001_000.png stands in an earlier row"):
        read_release(small_release.write())


def test_the_same_film_in_two_folders(small_release: SmallRelease) -> None:
    root = small_release.write()
    film = small_release.film_path("00000001_000.png")
    (root / "images_002/images/00000001_000.jpeg").write_bytes(film.read_bytes())

    with pytest.raises(ReleaseError, match=r"00000001_000 has two files, images_001/.*png and images_002/.*jpeg"):
        read_release(root)


def test_films_in_neither_or_both_lists(small_release: SmallRelease) -> None:
    small_release.test.append(small_release.train_val[0])
    lost = small_release.train_val.pop()

    problems = inspect_release(small_release.write()).problems

    assert [problem.kind for problem in problems] == ["in both lists", "in neither list"]
    assert "00000001_000.png" in problems[0].message
    assert lost in problems[1].message


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("{},Mass,900,100,200,100,,,", "within 1024 x 1024"),
        ("{},Mass,-2,100,200,100,,,", "within 1024 x 1024"),
        ("{},Mass,100,100,0,100,,,", "must have an area"),
        ("{},Mass,100,100,ten,100,,,", "must be numbers"),
        ("{},Rib,100,100,10,100,,,", "expected one of Atelectasis"),
        ("00099999_000.png,Mass,100,100,10,100,,,", "no row and no list"),
    ],
)
def test_a_wrong_box_is_named_by_its_line(small_release: SmallRelease, box: str, message: str) -> None:
    small_release.boxes.insert(1, box.format(small_release.test[0]))

    with pytest.raises(ReleaseError, match=f"BBox_List_2017.csv, line 3: .*{message}"):
        read_release(small_release.write())


def test_boxes_of_films_outside_a_partial_table_are_left_out_with_a_warning(small_release: SmallRelease) -> None:
    boxed = small_release.boxes[0].split(",")[0]
    small_release.rows = [row for row in small_release.rows if not row.startswith(boxed)]

    inspection = inspect_release(small_release.write())

    assert [(problem.kind, problem.severity) for problem in inspection.problems] == [
        ("box of a film without a row", "warning")
    ]
    assert boxed not in set(inspection.release.boxes["image_id"])


def test_priors_are_paired_with_films_by_stem(small_release: SmallRelease) -> None:
    root = small_release.write()
    films = read_release(root).films
    assert find_priors(root, films) is None
    (root / "priors").mkdir()
    assert find_priors(root, films) is None
    (root / "priors" / small_release.ids[1]).touch()

    assert find_priors(root, films)[:2] == [None, root / "priors" / small_release.ids[1]]


@pytest.mark.skipif(not REAL_RELEASE.is_dir(), reason="the NIH subset is not beside the project")
def test_the_real_subset() -> None:
    inspection = inspect_release(REAL_RELEASE)

    films = inspection.release.films
    assert inspection.problems == []
    assert inspection.orphans == []
    assert films["official"].value_counts().to_dict() == {"train_val": 1606, "test": 321}
    assert films["path"].ne("").all()
    boxes = inspection.release.boxes
    assert (len(boxes), boxes["image_id"].nunique(), boxes["finding"].eq("Pneumonia").sum()) == (63, 57, 45)
