"""Installs the bridge as a ROS 2 Python package (ament_python)."""

from __future__ import annotations

from setuptools import setup

NAME = "molmo2_ground_bridge"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    description="What molmo2-ground publishes over ZeroMQ, as ROS 2 topics.",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"bridge = {NAME}.bridge:main"]},
)
