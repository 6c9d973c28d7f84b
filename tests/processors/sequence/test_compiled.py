"""A stored kernel must not outlive a change in a kernel that was compiled into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import processors

PROGRAM = "from processors.sequence.rows import capacity_for; print(capacity_for(5))"


def run(root: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=root, env=environment | {"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_change_in_a_called_module_recompiles_the_caller(tmp_path: Path) -> None:
    source = Path(processors.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__", "spatial", "temporal", "profile")
    shutil.copytree(source, tmp_path / "processors", ignore=ignore)
    shutil.copytree(source.parent / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "processors" / "sequence"
    (package / "__init__.py").write_text("")
    rows = (package / "rows.py").read_text()
    function = "def capacity_for"
    assert function in rows
    helper = package / "widths.py"
    helper.write_text("from processors.sequence.compiled import kernel\n\n\n@kernel\ndef least():\n    return 2\n")
    rows = rows.replace("capacity = SMALLEST_BLOCK\n    while", "capacity = least()\n    while")
    rows = rows.replace("import numpy as np\n", "import numpy as np\nfrom processors.sequence.widths import least\n", 1)
    (package / "rows.py").write_text(rows)
    assert run(tmp_path) == "8"
    helper.write_text(helper.read_text().replace("return 2", "return 64"))
    assert run(tmp_path) == "64"
