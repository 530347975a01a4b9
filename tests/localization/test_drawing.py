"""Drawing: what is tinted, where outlines lie, and where labels go."""

import numpy as np
import pytest

from clarity_cxr.findings import FINDINGS
from clarity_cxr.localization.drawing import (
    FINDING_COLOURS,
    TRUTH_COLOUR,
    Entry,
    HeatLayer,
    Outline,
    blend_heat,
    canvas_scale,
    draw_overlay,
    place_label,
    truth_outline,
)

RED = (255, 0, 0)


def grey_pixels(picture: np.ndarray) -> np.ndarray:
    return (picture.max(axis=-1) == picture.min(axis=-1)) & (picture.max(axis=-1) > 0)


def test_every_finding_has_its_own_colour_and_none_is_the_truths():
    assert set(FINDING_COLOURS) == set(FINDINGS)
    assert len(set(FINDING_COLOURS.values())) == len(FINDINGS)
    for red, green, blue in FINDING_COLOURS.values():
        assert not (green > red + 40 and green > blue + 40)
    assert TRUTH_COLOUR[1] > max(TRUTH_COLOUR[0], TRUTH_COLOUR[2]) + 40


def test_heat_tints_only_where_it_exceeds_the_threshold():
    canvas = np.full((64, 64, 3), 100, dtype=np.uint8)
    heatmap = np.zeros((64, 64), dtype=np.float32)
    heatmap[:, 16:32] = 0.5
    heatmap[:, 32:] = 0.9
    tinted = blend_heat(canvas, HeatLayer(heatmap, 0.5, RED))
    assert (tinted[:, :32] == 100).all()
    assert (tinted[:, 32:, 0] > 100).all()
    assert (tinted[:, 32:, 1] > 50).all(), "the film shows through"


def test_heat_grows_softly_from_the_threshold_to_the_peak():
    canvas = np.full((1, 101, 3), 100, dtype=np.uint8)
    heatmap = np.linspace(0, 1, 101, dtype=np.float32)[None]
    red = blend_heat(canvas, HeatLayer(heatmap, 0.5, RED))[0, :, 0].astype(int)
    assert (red[:51] == 100).all()
    assert (np.diff(red[50:]) >= 0).all()
    assert red[52] < 120
    assert red[100] > 150


@pytest.mark.parametrize(
    ("width", "height", "longest"), [(128, 128, 512), (512, 400, 512), (700, 900, 900), (3000, 2500, 1024)]
)
def test_longest_side_is_brought_to_a_readable_size(width, height, longest):
    assert round(max(width, height) * canvas_scale(width, height)) == longest


def test_overlay_without_findings_leaves_the_film_untouched():
    film = np.random.default_rng(0).integers(1, 256, (600, 520)).astype(np.uint8)
    picture = np.asarray(draw_overlay(film, [], [], [Entry("none", RED)], "research use only"))
    assert picture.shape[1] == 520
    assert picture.shape[0] > 600, "a strip is added below"
    assert np.array_equal(picture[:600], np.repeat(film[:, :, None], 3, axis=2))


def test_outline_lies_on_the_first_and_last_pixels_of_the_half_open_box():
    film = np.full((512, 512), 60, dtype=np.uint8)
    picture = np.asarray(draw_overlay(film, [], [Outline((100, 120, 200, 260), "Mass 0.90", RED)], [], ""))[:512]
    assert tuple(picture[150, 100]) == RED
    assert tuple(picture[150, 199]) == RED
    assert tuple(picture[120, 150]) == RED
    assert tuple(picture[259, 150]) == RED
    inside = picture[122:258, 102:198]
    assert (inside == 60).all(), "neither outline nor label covers the lesion"


def test_outline_follows_the_film_when_it_is_drawn_smaller():
    film = np.full((2048, 2048), 60, dtype=np.uint8)
    picture = np.asarray(draw_overlay(film, [], [Outline((200, 400, 1000, 1200), "Mass 0.90", RED)], [], ""))
    assert tuple(picture[400, 100]) == RED
    assert tuple(picture[400, 499]) == RED
    assert tuple(picture[200, 300]) == RED
    assert tuple(picture[599, 300]) == RED


def test_truth_is_green_and_dashed():
    film = np.full((512, 512), 60, dtype=np.uint8)
    picture = np.asarray(draw_overlay(film, [], [truth_outline("Mass", (100, 100, 300, 300))], [], ""))
    side = (picture[100, 100:300] == TRUTH_COLOUR).all(axis=-1)
    assert 0.4 < side.mean() < 0.9


def test_boxes_at_and_beyond_the_frame_are_drawn_inside_it():
    film = np.full((512, 512), 60, dtype=np.uint8)
    outlines = [Outline((-20, -20, 900, 900), "Mass 0.90", RED), Outline((511.6, 511.6, 512, 512), "Nodule 0.50", RED)]
    picture = np.asarray(draw_overlay(film, [], outlines, [], ""))
    assert tuple(picture[0, 300]) == RED
    assert tuple(picture[300, 511]) == RED


@pytest.mark.parametrize("shape", [(1, 1), (40, 900), (900, 40)])
def test_extreme_shapes_are_drawn(shape):
    film = np.zeros(shape, dtype=np.uint8)
    outline = Outline((0, 0, shape[1], shape[0]), "Pleural Thickening 0.99", RED)
    entries = [Entry(f"{name} 0.50", colour) for name, colour in FINDING_COLOURS.items()]
    picture = draw_overlay(film, [HeatLayer(np.ones((8, 8)), 0.5, RED)], [outline], entries, "research use only")
    assert picture.width >= 320
    assert picture.height > shape[0] * canvas_scale(*shape[::-1])


def test_label_goes_above_then_below_and_stays_in_the_frame():
    frame, plate = (512, 512), (80.0, 16.0)
    above, covered = place_label((100, 100, 200, 200), plate, frame, [(100, 100, 200, 200)], [])
    assert above[3] <= 100
    assert covered == 0
    below, covered = place_label((100, 2, 200, 200), plate, frame, [(100, 2, 200, 200)], [])
    assert below[1] >= 200
    assert covered == 0
    corner, _ = place_label((480, 0, 512, 20), plate, frame, [(480, 0, 512, 20)], [])
    assert corner[0] >= 0
    assert corner[2] <= 512


def test_label_avoids_other_boxes_and_labels():
    plate, own, other = (80.0, 16.0), (100.0, 100.0, 200.0, 200.0), (90.0, 60.0, 220.0, 110.0)
    spot, covered = place_label(own, plate, (512, 512), [own, other], [])
    assert spot[1] >= 200
    assert covered == 0
    second, covered = place_label(own, plate, (512, 512), [own, other], [spot])
    assert covered == 0
    assert second != spot
