"""What the HyperFD paper reports, for comparison: (ΔAP, normalized rank in %) by method and search space (Tables 1-6)."""

from __future__ import annotations

from collections.abc import Mapping

Figures = Mapping[str, tuple[float | None, float]]

PUBLISHED: Mapping[str, Figures] = {
    "hpo": {
        "random": (0.0, 20.09),
        "best-on-server": (1.33, 25.12),
        "tr-automl": (-0.18, 22.18),
        "hyperstar": (-0.47, 22.00),
        "scot": (-0.10, 20.83),
        "hyperfd (resnet)": (-0.23, 17.41),
        "hyperfd (statistics)": (0.08, 17.59),
        "hyperfd (mse)": (-0.05, 20.93),
        "hyperfd": (1.67, 13.16),
        "latest data only": (1.12, 15.99),
        "frozen extractor": (1.22, 15.28),
        "frozen ranker": (1.32, 16.85),
        "no transformation": (1.28, 15.65),
        "oracle": (1.84, 13.79),
        "no triplet loss": (0.50, 16.49),
        "no synaptic intelligence": (1.38, 15.40),
        "no labels": (None, 14.13),
        "no gwap": (None, 14.22),
        "no pyramid": (None, 16.92),
        "no statistics": (None, 15.42),
        "no attention": (None, 15.09),
        "no warm-up": (0.50, 16.28),
        "no augmentation": (0.96, 17.55),
    },
    "nas": {
        "random": (0.0, 20.10),
        "best-on-server": (2.04, 10.97),
        "tr-automl": (-0.52, 25.29),
        "hyperstar": (-0.14, 21.09),
        "scot": (-0.28, 21.30),
        "hyperfd (resnet)": (1.54, 11.97),
        "hyperfd (statistics)": (1.58, 12.06),
        "hyperfd (mse)": (0.21, 18.34),
        "hyperfd": (2.39, 7.78),
        "latest data only": (2.03, 9.55),
        "frozen extractor": (2.19, 9.41),
        "frozen ranker": (2.26, 8.60),
        "no transformation": (2.16, 9.67),
        "oracle": (2.37, 7.73),
        "no triplet loss": (1.60, 12.06),
        "no synaptic intelligence": (2.33, 8.86),
        "no labels": (None, 11.13),
        "no gwap": (None, 10.41),
        "no pyramid": (None, 12.98),
        "no statistics": (None, 11.92),
        "no attention": (None, 12.09),
        "no warm-up": (1.38, 12.62),
        "no augmentation": (1.43, 15.23),
    },
}
