"""nnictl as it is, but for its patience: it gives its manager four seconds to start, which a busy machine may not keep."""

import functools

from nni.experiment import launcher
from nni.tools.nnictl.nnictl import parse_args

launcher._check_rest_server = functools.partial(launcher._check_rest_server, retry=120)
parse_args()
