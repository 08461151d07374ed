"""Molmo2 as we run it: checkpoint, inputs, vision, attention, decoding."""
