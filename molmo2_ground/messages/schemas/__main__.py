"""`python -m molmo2_ground.messages.schemas [--check]`: the schema files as the models say."""

from __future__ import annotations

import sys

from molmo2_ground.messages.schemas import MODELS, schema_file, schema_text


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ; 1 when some do."""
    differ = []
    for name in MODELS:
        path, text = schema_file(name), schema_text(name)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differ.append(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    print("\n".join(f"differs: {name}" if "--check" in arguments else f"wrote {name}" for name in differ))
    return int(bool(differ) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
