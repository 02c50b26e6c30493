"""Image-level features, computed in a process of their own.

Decoding and looking at images takes a gigabyte for a minute; the dispatcher lives as long as NNI's page is open.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from nni_hyperfd.customer.settings import Settings
from nni_hyperfd.data.dataset import FaceDataset, load_dataset
from nni_hyperfd.data.reading import Reading, add_reading_options
from nni_hyperfd.errors import DataError, HyperFDError
from nni_hyperfd.metafeature.features import ImageFeatures
from nni_hyperfd.metafeature.profile import features_path, profile_dataset

logger = logging.getLogger(__name__)

TOLD = 3
"""Exit status after an error of ours; Python itself uses 1 for any other."""


def profile_apart(dataset: FaceDataset, settings: Settings) -> ImageFeatures:
    """Features of ``dataset``, from the cache, which another process fills if they are not there.

    Raises:
        DataError: The images cannot be decoded, or the process came to a bad end.
    """
    if not features_path(dataset, settings.cache_dir).exists():
        logger.info("Looking at %d images with the base detector (kept for next time)", len(dataset.images))
        command = [sys.executable, "-W", "ignore", "-m", __name__, str(settings.data)]
        command += settings.reading().command_line()
        command += [] if settings.cache_dir is None else ["--cache", str(settings.cache_dir)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if run.returncode:
            last = (run.stderr.strip() or f"exit status {run.returncode}").splitlines()[-1]
            told = run.returncode == TOLD
            raise DataError(last if told else f"looking at the images of {settings.data} failed ({last}).")
    return profile_dataset(dataset, settings.cache_dir)


def main() -> int:
    """Fill the cache, or say in one sentence on stderr why not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    add_reading_options(parser)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    try:
        profile_dataset(load_dataset(options.data, **Reading.of(options).arguments()), options.cache)
    except HyperFDError as error:
        print(error, file=sys.stderr)
        return TOLD
    return 0


if __name__ == "__main__":
    sys.exit(main())
