"""The live loop: a camera goes in, typed places with their age come out, for weeks."""

from __future__ import annotations
