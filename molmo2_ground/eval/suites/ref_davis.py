"""Ref-DAVIS 2017: sentences about one object each in the DAVIS clips, laid out as Ref-YouTube-VOS is."""

from __future__ import annotations

from molmo2_ground.eval.suites.ref_youtube_vos import RefYoutubeVos


class RefDavis(RefYoutubeVos):
    """Ref-DAVIS 2017, in the layout of Ref-YouTube-VOS that its converters write."""

    name = "ref-davis"
    sparse = False
