"""Results as files."""

from __future__ import annotations

from molmo2_ground.export.result_file import (
    Result,
    dumps,
    json_schema,
    kind_of,
    loads,
    read_result,
    write_result,
)

__all__ = ["Result", "dumps", "json_schema", "kind_of", "loads", "read_result", "write_result"]
