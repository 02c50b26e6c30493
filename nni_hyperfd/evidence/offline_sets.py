"""Many diverse sub-data-sets out of the server's own images (HyperFD supplement, B.4, tables 4 and 5).

Every matrix of image features is clustered in nine ways for 2, 3, 5 and 7 clusters; each cluster is a candidate
data set. Candidates that are too small, too large, badly split or near-copies of another one are dropped. The images
keep the split (train, val, test) they have on the server, so nothing leaks between the splits of a sub-data-set.

What differs from the supplement, and why:

* Sizes are settings: the paper's minimum of 800 images does not fit a server of 1 700.
* Columns are standardized and clipped to three deviations first. Matrices of different origin then share one scale, which
  is what makes the paper's ``eps=10`` mean something for the Euclidean DBSCAN, and a few crowd pictures cannot take a cluster each.
* Cosine distances lie in [0, 2], so ``eps=10`` would put all images into one cluster. The cosine DBSCAN takes its ``eps`` from
  the data: the median image has a share of 0.1/k of all images within it, so it shrinks as more clusters are wanted.
  DBSCAN's noise is a candidate as well: the images that look like no others.
* "Manhattan" agglomeration uses average linkage, because scikit-learn allows Ward's only for Euclidean distances.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import stats
from sklearn.cluster import DBSCAN, AgglomerativeClustering, Birch, KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances

from nni_hyperfd.errors import DataError
from nni_hyperfd.files import write_file

SPLITS = ("train", "val", "test")
FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]


@dataclass(frozen=True)
class OfflineSettings:
    """What counts as a usable sub-data-set.

    Args:
        clusters: Numbers of clusters to iterate over (supplement, table 5).
        min_images: Smaller sub-data-sets are dropped.
        max_images: Larger ones are dropped.
        max_split_shift: Largest difference between a split's share of the sub-data-set and its share of the server data.
        min_faces: Fewest faces in each split (train, val, test).
        max_jaccard: A candidate that overlaps an earlier one by more than this (intersection over union) is a copy.
    """

    clusters: tuple[int, ...] = (2, 3, 5, 7)
    min_images: int = 120
    max_images: int = 900
    max_split_shift: float = 0.08
    min_faces: tuple[int, int, int] = (60, 12, 30)
    max_jaccard: float = 0.95


@dataclass(frozen=True)
class OfflineSet:
    """One sub-data-set: ``members`` are sorted indices into the server's images.

    ``name`` says where it comes from and ends with a hash of its members, so that a table row cannot be mistaken for
    one of another clustering run.
    """

    name: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class OfflineReport:
    """How many candidates survived and how diverse the survivors are.

    Attributes:
        candidates: Clusters looked at.
        dropped: Reason -> number of candidates dropped for it.
        kept: Survivors.
        kept_by_features: Feature matrix -> survivors.
        kept_by_clustering: Clustering -> survivors.
        images: 0, 25, 50, 75 and 100 % quantiles of the number of images.
        faces_per_image: The same quantiles of the mean number of faces an image.
        jaccard: 50, 90, 99 and 100 % quantiles of the overlap of two survivors.
        spread: Feature matrix -> standard deviation of the survivors' feature means, divided by what random subsets of
            the same sizes would show. 1 is no diversity at all.
    """

    candidates: int
    dropped: dict[str, int]
    kept: int
    kept_by_features: dict[str, int]
    kept_by_clustering: dict[str, int]
    images: list[float]
    faces_per_image: list[float]
    jaccard: list[float]
    spread: dict[str, float]

    @classmethod
    def of_sample(cls, sets: Sequence[OfflineSet], candidates: int) -> OfflineReport:
        """Of sets drawn from ``candidates`` that have a report of their own: only numbers and sizes."""
        sizes = np.quantile([len(each.members) for each in sets], (0.0, 0.25, 0.5, 0.75, 1.0))
        dropped = {"not drawn": candidates - len(sets)}
        return cls(candidates, dropped, len(sets), {}, {}, sizes.tolist(), [], [], {})


@dataclass(frozen=True)
class OfflineSets:
    """The surviving sub-data-sets with everything needed to make them again."""

    sets: tuple[OfflineSet, ...]
    report: OfflineReport
    settings: OfflineSettings = field(default_factory=OfflineSettings)
    seed: int = 0

    def save(self, path: Path) -> None:
        """Writes one JSON file (names, member indices, report, settings, seed)."""
        body = {
            "seed": self.seed,
            "settings": asdict(self.settings),
            "report": asdict(self.report),
            "sets": {each.name: list(each.members) for each in self.sets},
        }
        write_file(path, json.dumps(body, separators=(",", ":")))

    def shifted(self, by: int) -> OfflineSets:
        """The same sets where other images stand before these: members grow by ``by``, and names change with them."""
        moved = []
        for each in self.sets:
            members = tuple(member + by for member in each.members)
            moved.append(OfflineSet(f"{each.name.rpartition('-')[0]}-{_digest(members)}", members))
        return replace(self, sets=tuple(moved))

    @classmethod
    def load(cls, path: Path) -> OfflineSets:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: The file is not such a file, or a set's members do not match the hash in its name.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            settings: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in body["settings"].items()
            }
            loaded = cls(
                sets=tuple(OfflineSet(name, tuple(members)) for name, members in body["sets"].items()),
                report=OfflineReport(**body["report"]),
                settings=OfflineSettings(**settings),
                seed=body["seed"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not a file of offline sets ({error}); make it again.") from error
        for each in loaded.sets:
            if not each.name.endswith(_digest(each.members)):
                raise DataError(
                    f"{path}: members of {each.name} do not match the hash in its name; make it again."
                )
        return loaded


def load_sets(folder: Path) -> tuple[OfflineSet, ...]:
    """All sets of the files ``offline_sets*.json`` in a folder, file by file.

    Raises:
        DataError: There is none, or one is damaged.
    """
    paths = sorted(folder.glob("offline_sets*.json"))
    if not paths:
        raise DataError(f"{folder} has no offline_sets.json: make it with benchmarks/table_inputs.py.")
    return tuple(part for path in paths for part in OfflineSets.load(path).sets)


def label_statistics(boxes: Sequence[FloatArray], sizes: FloatArray) -> FloatArray:
    """``scipy.stats.describe`` of the box areas of each image (supplement, table 4, last row).

    Args:
        boxes: One ``[m, 4]`` array an image: x1, y1, x2, y2 in pixels; ``m`` may be 0.
        sizes: ``[n, 2]``: width and height of the images in pixels.

    Returns:
        ``[n, 7]``: count, minimum, maximum, mean, variance, skewness, kurtosis of the boxes' shares of the image area.
        What is undefined for few boxes is 0.
    """
    rows = np.zeros((len(boxes), 7))
    for row, found, (width, height) in zip(rows, boxes, sizes):
        if len(found):
            areas = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1]) / (width * height)
            row[:] = _describe(areas.astype(np.float64))
    return np.nan_to_num(rows)


def _describe(values: FloatArray) -> list[float]:
    with np.errstate(all="ignore"):
        # Equal values have no skewness; a single one no variance either. scipy warns, we mean zero.
        if len(values) < 2 or np.ptp(values) < 1e-12:
            return [len(values), values.min(), values.max(), values.mean(), 0.0, 0.0, 0.0]
        found = stats.describe(values)
    return [found.nobs, *found.minmax, found.mean, found.variance, found.skewness, found.kurtosis]


def make_offline_sets(
    features: Mapping[str, FloatArray],
    splits: Sequence[str],
    faces: IntArray,
    settings: OfflineSettings | None = None,
    seed: int = 0,
    workers: int = 1,
    known: Sequence[OfflineSet] = (),
) -> OfflineSets:
    """Clusters the server's images into sub-data-sets.

    Args:
        features: Name -> ``[n, F]`` or ``[n, levels, F]``; each level of the latter counts as a matrix of its own.
        splits: The ``n`` images' splits: ``train``, ``val`` or ``test``.
        faces: ``[n]`` number of faces that count, per image.
        settings: What counts as usable.
        seed: Of k-means, PCA and t-SNE. Equal inputs and seed give equal sets on one machine; commit the file of
            :meth:`OfflineSets.save`, because another BLAS may round a border case the other way.
        workers: Processes to spread the matrices over; the result does not depend on it.
        known: Sets of the same images that are there already: what overlaps one of them is a copy.

    Raises:
        DataError: Shapes that do not agree, non-finite features, or an unknown split.
    """
    settings = settings or OfflineSettings()
    matrices = _matrices(features, len(splits))
    codes = _split_codes(splits)
    faces = np.asarray(faces)
    if faces.shape != codes.shape:
        raise DataError(f"offline sets: {len(codes)} splits but face counts of shape {faces.shape}.")
    shares = np.bincount(codes, minlength=3) / len(codes)

    there = [np.isin(np.arange(len(codes)), part.members) for part in known]
    kept: list[tuple[str, NDArray[np.bool_]]] = []
    origins: list[tuple[str, str]] = []
    dropped: Counter[str] = Counter()
    candidates = 0
    clusterings = Parallel(n_jobs=workers)(
        delayed(_clusterings)(matrix, settings.clusters, seed) for matrix in matrices.values()
    )
    for matrix_name, found in zip(matrices, clusterings):
        for clustering, labels in found:
            for label in np.unique(labels):
                candidates += 1
                member = labels == label
                reason = _unusable(member, codes, faces, shares, settings)
                if reason is None and _is_copy(member, there, settings.max_jaccard):
                    reason = "near-duplicate"
                if reason is not None:
                    dropped[reason] += 1
                    continue
                which = "noise" if label < 0 else f"c{label}"
                there.append(member)
                kept.append((f"{matrix_name}.{clustering}.{which}", member))
                origins.append((matrix_name, clustering.split(".")[0]))

    named = []
    for origin, member in kept:
        members = tuple(int(i) for i in np.flatnonzero(member))
        named.append(OfflineSet(f"{origin}-{_digest(members)}", members))
    report = _report(candidates, dropped, [m for _, m in kept], origins, matrices, faces)
    return OfflineSets(tuple(named), report, settings, seed)


def _matrices(features: Mapping[str, FloatArray], images: int) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for name, values in features.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim not in (2, 3) or len(array) != images or not np.isfinite(array).all():
            raise DataError(
                f"offline sets: features {name!r} must be finite and [{images}, F] or [{images}, levels, F], "
                f"got shape {array.shape}."
            )
        levels = [array] if array.ndim == 2 else list(np.moveaxis(array, 1, 0))
        for index, level in enumerate(levels):
            found[name if array.ndim == 2 else f"{name}{index}"] = _standardize(level)
    return found


def _standardize(matrix: FloatArray) -> FloatArray:
    spread = matrix.std(axis=0)
    varying = spread > 1e-9
    if not varying.any():
        raise DataError("offline sets: a feature matrix has the same row for every image.")
    return np.clip((matrix[:, varying] - matrix[:, varying].mean(axis=0)) / spread[varying], -3.0, 3.0)


def _split_codes(splits: Sequence[str]) -> IntArray:
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise DataError(f"offline sets: unknown splits {sorted(unknown)}; use {', '.join(SPLITS)}.")
    return np.array([SPLITS.index(split) for split in splits])


def _clusterings(matrix: FloatArray, clusters: Sequence[int], seed: int) -> list[tuple[str, IntArray]]:
    """The nine rows of the supplement's table 5, in its order: ``(name, labels [n])``."""
    components = min(20, *matrix.shape)
    reduced = PCA(components, random_state=seed).fit_transform(matrix)
    # Half of t-SNE's default iterations, because it is most of the run time.
    embedded = TSNE(min(2, components), init="pca", max_iter=500, random_state=seed).fit_transform(reduced)
    cosine = pairwise_distances(matrix, metric="cosine")
    manhattan = pairwise_distances(matrix, metric="manhattan")

    def k_means(values: FloatArray, k: int, init: str) -> IntArray:
        return KMeans(k, init=init, max_iter=2000, n_init=3, random_state=seed).fit_predict(values)

    by_count: dict[str, Callable[[int], IntArray]] = {
        "kmeans": lambda k: k_means(matrix, k, "k-means++"),
        "kmeans_random": lambda k: k_means(matrix, k, "random"),
        "pca_kmeans": lambda k: k_means(reduced, k, "k-means++"),
        "tsne_kmeans": lambda k: k_means(embedded, k, "k-means++"),
        "dbscan_cosine": lambda k: DBSCAN(
            eps=_cosine_radius(cosine, k), min_samples=5, metric="precomputed"
        ).fit_predict(cosine),
        "ward": lambda k: AgglomerativeClustering(k).fit_predict(matrix),
        "average_manhattan": lambda k: AgglomerativeClustering(
            k, metric="precomputed", linkage="average"
        ).fit_predict(manhattan),
        "birch": lambda k: Birch(n_clusters=k).fit_predict(matrix),
    }
    found = [("dbscan_l2", DBSCAN(eps=10.0, min_samples=5).fit_predict(matrix))]
    found += [(f"{name}.k{k}", cluster(k)) for name, cluster in by_count.items() for k in clusters]
    return found


def _cosine_radius(distances: FloatArray, k: int) -> float:
    neighbors = max(5, round(0.1 * len(distances) / k))
    return max(float(np.median(np.partition(distances, neighbors, axis=1)[:, neighbors])), 1e-6)


def _unusable(
    member: NDArray[np.bool_], codes: IntArray, faces: IntArray, shares: FloatArray, settings: OfflineSettings
) -> str | None:
    size = int(member.sum())
    if size < settings.min_images:
        return "too small"
    if size > settings.max_images:
        return "too large"
    counts = np.bincount(codes[member], minlength=3)
    if np.abs(counts / size - shares).max() > settings.max_split_shift:
        return "badly split"
    if (np.bincount(codes[member], weights=faces[member], minlength=3) < settings.min_faces).any():
        return "too few faces"
    return None


def _is_copy(member: NDArray[np.bool_], there: list[NDArray[np.bool_]], limit: float) -> bool:
    if not there:
        return False
    others = np.stack(there)
    return bool(((others & member).sum(1) / (others | member).sum(1) > limit).any())


def _digest(members: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, members)).encode()).hexdigest()[:8]


def _report(
    candidates: int,
    dropped: Counter[str],
    members: list[NDArray[np.bool_]],
    origins: list[tuple[str, str]],
    matrices: Mapping[str, FloatArray],
    faces: IntArray,
) -> OfflineReport:
    def quantiles(values: FloatArray, at: Sequence[float]) -> list[float]:
        return [round(float(v), 4) for v in np.quantile(values, at)] if len(values) else []

    five = (0.0, 0.25, 0.5, 0.75, 1.0)
    masks = np.array(members, dtype=np.float64).reshape(len(members), len(faces))
    sizes = masks.sum(1)
    both = masks @ masks.T
    overlap = (both / np.maximum(sizes[:, None] + sizes - both, 1.0))[np.triu_indices(len(masks), 1)]
    spread = {}
    for name, matrix in matrices.items():
        # A random subset's mean of standardized columns deviates by 1/sqrt(size) (without replacement: a little less).
        expected = (
            np.sqrt(matrix.var(0).mean() * np.mean((1 - sizes / len(faces)) / sizes))
            if len(sizes)
            else np.nan
        )
        means = masks @ matrix / np.maximum(sizes, 1)[:, None]
        spread[name] = round(float(np.sqrt(means.var(0).mean()) / expected), 2) if len(sizes) > 1 else 0.0
    return OfflineReport(
        candidates=candidates,
        dropped=dict(sorted(dropped.items())),
        kept=len(members),
        kept_by_features=dict(Counter(name for name, _ in origins)),
        kept_by_clustering=dict(Counter(name for _, name in origins)),
        images=quantiles(sizes, five),
        faces_per_image=quantiles(masks @ faces / np.maximum(sizes, 1), five),
        jaccard=quantiles(overlap, (0.5, 0.9, 0.99, 1.0)),
        spread=spread,
    )
