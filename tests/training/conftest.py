import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # spawned trainers inherit it and find `tiny_training`
