from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "pipeline"):  # `tiny_study`, `tiny_recipe`
    sys.path.insert(0, str(folder))
