"""Boxes around shapes that were turned."""

from __future__ import annotations

import json
import math

import pytest

from nni_hyperfd.data.formats.around import turned_ellipse, turned_hull

AT = (50.0, 40.0)
AXES = (12.0, 25.0)  # half of them
DEGREES = 40.0


def around(across: float, down: float, degrees: float, steps: int = 3600) -> list[float]:
    """The box around many points of the ellipse, each turned by itself."""
    turn = math.radians(degrees)
    places = []
    for step in range(steps):
        u, v = across * math.cos(math.tau * step / steps), down * math.sin(math.tau * step / steps)
        places.append(
            (
                AT[0] + u * math.cos(turn) - v * math.sin(turn),
                AT[1] + u * math.sin(turn) + v * math.cos(turn),
            )
        )
    xs, ys = zip(*places)
    return [min(xs), min(ys), max(xs), max(ys)]


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133.5, 180, -40, 725])
@pytest.mark.parametrize("axes", [(12, 25), (30, 4), (10, 10)])
def test_the_box_of_a_turned_ellipse_is_that_of_its_points(axes, degrees):
    assert turned_ellipse(*AT, *axes, degrees) == pytest.approx(around(*axes, degrees), abs=1e-3)


def test_a_turn_that_is_not_finite_has_no_box():
    for degrees in (math.inf, math.nan):
        assert turned_ellipse(*AT, *AXES, degrees) is None
        assert turned_hull(*AT, *AXES, degrees) is None


def via(rx: float, ry: float) -> dict[str, str]:
    shape = {"name": "ellipse", "cx": AT[0], "cy": AT[1], "rx": rx, "ry": ry, "theta": math.radians(DEGREES)}
    regions = [{"shape_attributes": shape, "region_attributes": {}}]
    return {"via.json": json.dumps({"a.jpg1": {"filename": "a.jpg", "regions": regions}})}


def cvat(rx: float, ry: float) -> dict[str, str]:
    shape = f'<ellipse label="face" cx="{AT[0]}" cy="{AT[1]}" rx="{rx}" ry="{ry}" rotation="{DEGREES}"/>'
    image = f'<image id="0" name="a.jpg" width="100" height="80">{shape}</image>'
    return {"annotations.xml": f"<annotations>{image}</annotations>"}


def label_studio(rx: float, ry: float) -> dict[str, str]:
    """In percent of 100 x 80 pixels, so that its two half axes have units of their own."""
    value = {"x": AT[0], "y": AT[1] / 0.8, "radiusX": rx, "radiusY": ry / 0.8, "rotation": DEGREES}
    region = {"type": "ellipselabels", "original_width": 100, "original_height": 80, "value": value}
    return {
        "p.json": json.dumps([{"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": [region]}]}])
    }


@pytest.mark.parametrize("axes", [AXES, (20.0, 20.0)])
@pytest.mark.parametrize(("format", "written"), [("via", via), ("cvat", cvat), ("labelstudio", label_studio)])
def test_turned_ellipses_of_every_tool(read, format, written, axes):
    (face,) = read(format, written(*axes)).faces["images/a.jpg"]
    assert face.box == pytest.approx(around(*axes, DEGREES), abs=1e-3)


def test_a_region_that_was_turned_by_no_number_is_left_out(read):
    files = {"p.json": label_studio(*AXES)["p.json"].replace(f'"rotation": {DEGREES}', '"rotation": 1e999')}
    found = read("labelstudio", files)
    assert found.faces["images/a.jpg"] == []
    assert [image for image, _, _ in found.missed] == ["images/a.jpg"]
