"""``python -m nni_hyperfd.cli`` is ``hyperfd``."""

import sys

from nni_hyperfd.cli import main

sys.exit(main())
