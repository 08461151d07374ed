"""Results for neighbours: one file each, and none knows another.

Import the one that you need: `from molmo2_ground.integrations.supervision import to_detections`.
"""
