"""What a script has measured so far, in a file: stopped at any moment, it goes on with what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nni_hyperfd.files import write_file


class Rows(dict[str, Any]):
    """Results by name, as they stand in a JSON file; none where there is no such file."""

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text()) if path.exists() else {})
        self.path = path

    def save(self) -> None:
        """Writes them; the file is whole at any moment."""
        write_file(self.path, json.dumps(self, indent=1) + "\n")
