"""`python -m molmo2_ground` is the command `molmo2-ground`."""

from __future__ import annotations

from molmo2_ground.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
