"""AP against a plain loop, against pycocotools, and the properties that any average precision must have."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_hyperfd.detection.evaluation import average_precision as module
from nni_hyperfd.detection.evaluation.average_precision import average_precision, best_faces


@dataclass(frozen=True)
class Case:
    """Detections and faces of a few images, as `average_precision` takes them."""

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    face_image: np.ndarray
    face_boxes: np.ndarray
    face_ignored: np.ndarray

    def ap(self) -> float:
        return average_precision(**vars(self))

    def add_detections(self, image: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> Case:
        return replace(
            self,
            image=np.concatenate([self.image, image]),
            boxes=np.concatenate([self.boxes, boxes]).astype(np.float32),
            scores=np.concatenate([self.scores, scores]).astype(np.float32),
        )


def build(detections: list[tuple], faces: list[tuple]) -> Case:
    """Detections (image, box, score) and faces (image, box, ignored)."""
    return Case(
        np.array([row[0] for row in detections], dtype=np.int64),
        np.array([row[1] for row in detections], dtype=np.float32).reshape(-1, 4),
        np.array([row[2] for row in detections], dtype=np.float32),
        np.array([row[0] for row in faces], dtype=np.int64),
        np.array([row[1] for row in faces], dtype=np.float32).reshape(-1, 4),
        np.array([row[2] for row in faces], dtype=bool),
    )


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    width = np.float32(max(0, min(a[2], b[2]) - max(a[0], b[0])))
    height = np.float32(max(0, min(a[3], b[3]) - max(a[1], b[1])))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return np.float32(both / max(union, np.float32(1e-6)))


def plain_ap(case: Case, threshold: float = 0.5) -> float:
    """The loops that MMDetection runs: image by image, detection by detection in the order of scores."""
    flags: list[tuple[float, int, int, int]] = []
    for number in range(int(max([*case.image, *case.face_image], default=-1)) + 1):
        faces = np.flatnonzero(case.face_image == number)
        faces = [*faces[~case.face_ignored[faces]], *faces[case.face_ignored[faces]]]  # valid ones first
        found = np.flatnonzero(case.image == number)
        covered: set[int] = set()
        for row in sorted(found, key=lambda row: -case.scores[row]):
            overlaps = [overlap(case.boxes[row], case.face_boxes[face]) for face in faces]
            right = wrong = 0
            if overlaps and max(overlaps) >= threshold:
                face = faces[int(np.argmax(overlaps))]
                if not case.face_ignored[face]:
                    right, wrong = int(face not in covered), int(face in covered)
                    covered.add(face)
            else:
                wrong = 1
            flags.append((float(case.scores[row]), int(row), right, wrong))
    flags.sort(key=lambda flag: (-flag[0], flag[1]))
    total = int((~case.face_ignored).sum())
    if total == 0:
        return 0.0
    right = wrong = 0
    points = []
    for _, _, hit, miss in flags:
        right, wrong = right + hit, wrong + miss
        points.append((right / total, right / max(right + wrong, 1)))
    area, reached = 0.0, 0.0
    for position, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[position:])
        reached = recall
    return area


# A coarse grid, so that boxes coincide, touch, and fall exactly on an IoU of one half; few scores, so that they tie.
side = st.integers(1, 4).map(lambda value: value * 4.0)
place = st.integers(0, 5).map(lambda value: value * 2.0)
box = st.tuples(place, place, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
tied_scores = st.integers(1, 5).map(lambda value: value / 5)
images = st.integers(0, 3)
faces = st.lists(st.tuples(images, box, st.booleans()), max_size=8)
tied = st.builds(build, st.lists(st.tuples(images, box, tied_scores), max_size=12), faces)
distinct = st.builds(
    lambda rows, found, order: build(
        [(image, b, (order.index(row) + 1) / 20) for row, (image, b) in enumerate(rows)], found
    ),
    st.lists(st.tuples(images, box), min_size=1, max_size=12),
    faces,
    st.permutations(range(12)),
)


@settings(max_examples=150, deadline=None)
@given(case=tied)
def test_equals_the_plain_loop(case: Case) -> None:
    assert case.ap() == pytest.approx(plain_ap(case), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(case=tied, image=images, where=box, top=st.booleans(), score=tied_scores)
def test_a_false_positive_never_helps(case: Case, image: int, where: tuple, top: bool, score: float) -> None:
    far = np.array([[500 + where[0], 500, 500 + where[2], 520]], dtype=np.float32)
    worse = case.add_detections(np.array([image]), far, np.array([1.0 if top else score]))
    assert worse.ap() <= case.ap() + 1e-9


@settings(max_examples=60, deadline=None)
@given(case=tied, factor=st.floats(0.1, 0.9))
def test_a_second_detection_of_everything_below_all_others_never_helps(case: Case, factor: float) -> None:
    low = case.scores * np.float32(factor * 0.2)  # all under the lowest first score
    assert case.add_detections(case.image, case.boxes, low).ap() <= case.ap() + 1e-9


@settings(max_examples=60, deadline=None)
@given(case=distinct, seed=st.integers(0, 2**31))
def test_order_of_images_detections_and_faces_does_not_matter(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    renamed = rng.permutation(4)
    rows, columns = rng.permutation(len(case.image)), rng.permutation(len(case.face_image))
    # Of faces that coincide the first one is taken: keep those in their order.
    same = {tuple(b) for b in case.face_boxes}
    if len(same) < len(case.face_boxes):
        columns = np.arange(len(case.face_boxes))
    shuffled = Case(
        renamed[case.image[rows]],
        case.boxes[rows],
        case.scores[rows],
        renamed[case.face_image[columns]],
        case.face_boxes[columns],
        case.face_ignored[columns],
    )
    # Of two faces that a detection overlaps equally the first one is taken, so these may rightly change.
    if no_equal_overlaps(case):
        assert shuffled.ap() == pytest.approx(case.ap(), abs=1e-9)


def no_equal_overlaps(case: Case) -> bool:
    for image, found in zip(case.image, case.boxes):
        around = [overlap(found, b) for b in case.face_boxes[case.face_image == image]]
        best = max(around, default=0)
        if best >= 0.5 and around.count(best) > 1:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(case=tied, extra=st.lists(st.tuples(images, box), min_size=1, max_size=4))
def test_an_ignored_face_counts_for_neither_side(case: Case, extra: list[tuple]) -> None:
    """Far-away ignored faces, each detected twice at the top, change nothing."""
    apart = [(image, (b[0] + 1000, b[1], b[2] + 1000, b[3])) for image, b in extra]
    found = case.add_detections(
        np.repeat([image for image, _ in apart], 2),
        np.repeat(np.array([b for _, b in apart], dtype=np.float32), 2, axis=0),
        np.full(2 * len(apart), 1.0),
    )
    found = replace(
        found,
        face_image=np.concatenate([case.face_image, [image for image, _ in apart]]),
        face_boxes=np.concatenate([case.face_boxes, np.array([b for _, b in apart], np.float32)]),
        face_ignored=np.concatenate([case.face_ignored, np.ones(len(apart), dtype=bool)]),
    )
    assert found.ap() == pytest.approx(case.ap(), abs=1e-9)


HERE, THERE = (0, 0, 10, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("detections", "faces", "wanted"),
    [
        ([], [], 0.0),
        ([(0, HERE, 0.9)], [], 0.0),
        ([], [(0, HERE, False)], 0.0),
        ([(0, HERE, 0.9)], [(0, HERE, True)], 0.0),
        ([(0, HERE, 0.9)], [(1, HERE, False)], 0.0),
        ([(0, HERE, 0.9)], [(0, HERE, False)], 1.0),
        ([(0, HERE, 0.9)], [(0, HERE, False), (0, THERE, False)], 0.5),
        ([(0, HERE, 0.9)], [(0, HERE, False), (0, THERE, True)], 1.0),
        # a second detection of a face is false: precision 1/1, 1/2, 2/3
        (
            [(0, HERE, 0.9), (0, HERE, 0.8), (0, THERE, 0.7)],
            [(0, HERE, False), (0, THERE, False)],
            0.5 + 1 / 3,
        ),
        # ties keep their order
        ([(0, THERE, 0.5), (0, HERE, 0.5)], [(0, HERE, False)], 0.5),
        ([(0, HERE, 0.5), (0, THERE, 0.5)], [(0, HERE, False)], 1.0),
        # a valid face is taken before an ignored one at the same place, whatever their order
        ([(0, HERE, 0.9)], [(0, HERE, True), (0, HERE, False)], 1.0),
        # an IoU of exactly one half is a match, a little less is none
        ([(0, (0, 0, 10, 5), 0.9)], [(0, HERE, False)], 1.0),
        ([(0, (0, 0, 10, 4.999), 0.9)], [(0, HERE, False)], 0.0),
        # no second choice: the best face of both is the first, so the second one stays undetected
        (
            [(0, (0, 0, 10, 10), 0.9), (0, (0, 0, 10, 9), 0.8)],
            [(0, (0, 0, 10, 10), False), (0, (0, 0, 10, 5.5), False)],
            0.5,
        ),
    ],
)
def test_by_hand(detections: list, faces: list, wanted: float) -> None:
    case = build(detections, faces)
    assert case.ap() == pytest.approx(wanted)
    assert plain_ap(case) == pytest.approx(wanted)


def scene(rng: np.random.Generator, images: int, ignored: bool) -> Case:
    """Faces on a grid (so that none overlaps another) and a detector that misses, jitters, doubles and invents."""
    detections, faces = [], []
    for image in range(images):
        for cell in rng.permutation(16)[: rng.integers(0, 9)]:
            corner = np.array([cell % 4, cell // 4]) * 100.0 + rng.uniform(0, 20, 2)
            size = rng.uniform(30, 75, 2)
            b = np.concatenate([corner, corner + size])
            unclear = bool(ignored and rng.random() < 0.2)
            faces.append((image, tuple(b), unclear))
            # COCO takes a second detection of an ignored face for false, MMDetection for neither.
            for _ in range(rng.choice([0, 1, 1, 1, 1 if unclear else 2])):
                jitter = rng.normal(0, 0.1, 4) * np.tile(size, 2)
                detections.append((image, tuple(b + jitter), rng.random()))
        for _ in range(rng.integers(0, 3)):
            corner = rng.uniform(0, 400, 2)
            detections.append((image, (*corner, *(corner + rng.uniform(20, 60, 2))), rng.random() * 0.7))
    return build(detections, faces)


def coco_ap(case: Case) -> float:
    """AP at an IoU of 0.5 by pycocotools: 101 recall points; ignored faces as faces outside the range of areas.

    (It overwrites a flag "ignore", and its crowds have an overlap of their own.)
    """
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def xywh(b: np.ndarray) -> list[float]:
        return [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]

    numbers = range(int(max(case.image.max(), case.face_image.max())) + 1)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": number} for number in numbers],
            "categories": [{"id": 1}],
            "annotations": [
                {
                    "id": row + 1,
                    "image_id": int(image),
                    "category_id": 1,
                    "bbox": xywh(b),
                    "area": 0.0 if unclear else 100.0,
                    "iscrowd": 0,
                }
                for row, (image, b, unclear) in enumerate(
                    zip(case.face_image, case.face_boxes, case.face_ignored)
                )
            ],
        }
        truth.createIndex()
        results = [
            {"image_id": int(image), "category_id": 1, "bbox": xywh(b), "score": float(score)}
            for image, b, score in zip(case.image, case.boxes, case.scores)
        ]
        judge = evaluation.COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.params.areaRng, judge.params.areaRngLbl = [[0.1, 1e10]], ["counted"]
        judge.params.maxDets = [1000]
        judge.evaluate()
        judge.accumulate()
    return float(judge.eval["precision"][0, :, 0, 0, 0].mean())


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pycocotools(seed: int, ignored: bool) -> None:
    case = scene(np.random.default_rng(seed), 40, ignored)
    assert 0.2 < case.ap() < 0.95  # a case that could tell
    assert case.ap() == pytest.approx(coco_ap(case), abs=0.01)
    assert case.ap() == pytest.approx(plain_ap(case), abs=1e-9)


def test_comparing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = scene(np.random.default_rng(9), 30, ignored=True)
    arguments = (case.image, case.boxes, case.face_image, case.face_boxes, case.face_ignored)
    whole = best_faces(*arguments)
    monkeypatch.setattr(module, "MOST_PAIRS", 50)
    for one, other in zip(whole, best_faces(*arguments)):
        np.testing.assert_array_equal(one, other)
