"""The mixtures of the three stages, as data.

The rule and the rates of stage 1 are the paper's. For stage 2 the paper says that the groups' rates are set
by hand; these, the datasets, their caps and the factors on them are the released code's, under its names. (It
calls two by names that its own registry lacks: `molmo2_syn_captions_qa` and `molmo2_syn_captions_subtitle_qa`
are the ones meant.) Sets of tracking stand under their dataset and task. Only ratios of rates count: those of
stage 2 add up to 1.1.

Sizes are no part of a table: they are what a user has on disk. `Mixture.only` takes the sets that are there.
"""

from __future__ import annotations

from dataclasses import replace

from molmo2_ground.train.mixture import Group, Member, Mixture
from molmo2_ground.train.weights import BranchKind


def _members(names: str, *, kind: BranchKind = "answer") -> tuple[Member, ...]:
    return tuple(Member(name=name, kind=kind) for name in names.split())


def _capped(members: tuple[Member, ...], caps: dict[str, int]) -> tuple[Member, ...]:
    return tuple(replace(member, cap=caps.get(member.name)) for member in members)


# 60 % captions, 30 % points, 10 % text. This stage trains with the weight rule `even`, whatever the kind.
STAGE1 = Mixture(
    groups=(
        Group(name="captions", rate=0.60, members=_members("pixmo_cap_with_transcripts")),
        Group(
            name="image_pointing",
            rate=0.30,
            members=_members(
                "pixmo_points_train pixmo_points_high_freq_train pixmo_count_train cosyn_point",
                kind="pointing",
            ),
        ),
        Group(name="nlp", rate=0.10, members=_members("tulu4_max_2304")),
    )
)

_DEMO = (
    *_members("pixmo_ask_model_anything"),
    Member(name="pixmo_cap", cap=100_000),
    *_members("pixmo_cap_qa_as_user_qa pixmo_multi_image_qa_multi_only_max5 molmo2_human_qa"),
    Member(name="vixmo3_top_level_captions_min_3", rate=1.5, kind="video_caption"),
)

_IMAGE_ACADEMIC = _capped(
    _members(
        """
        coco_2014_vqa_multi text_vqa okvqa chart_qa_weighted doc_qa info_qa ai2_diagram_v2_mix_transparent
        a_okvqa_mc a_okvqa_da science_qa_img tabwmp_da st_qa tally_qa
        mantis_instruct_llava_665k_multi_multi_only mantis_instruct_nlvr2_multi_only
        mantis_instruct_spot_the_diff_multi_only
        dv_qa figure_qa plot_qa
        cosyn_chart_exp cosyn_chemical_exp cosyn_diagram_exp cosyn_math_exp cosyn_music_exp cosyn_table_exp
        cosyn_document
        cosyn_multidoc_chart_exp cosyn_multidoc_chemical_exp cosyn_multidoc_diagram_exp cosyn_multidoc_doc_exp
        cosyn_multidoc_music_exp cosyn_multidoc_table_exp
        """
    ),
    {"dv_qa": 10_000, "figure_qa": 10_000, "plot_qa": 20_000},
)

_VIDEO_ACADEMIC = _capped(
    _members(
        """
        tgif tvqa_with_sub paxion llava_video_mc_academic llava_video_oe_academic perception_test nextqa_mc
        news_video_qa_filtered how2qa sutd_trafficqa social_iq2 sportsqa_oe cinepile_with_sub clevrer funqa
        star intent_qa video_localized_narratives video_localized_narratives_caption road_text_vqa countix_oe
        camerabench_qa motionbench_train moments_in_time_qa kinetics_qa charades_sta_all_qa coin_all_qa
        youcook2_all_qa activitynet_all_qa ego4d_all epic_kitchens_qa qv_highlights
        molmo2_syn_captions_qa molmo2_syn_captions_subtitle_qa
        """
    ),
    dict.fromkeys(("tgif", "tvqa_with_sub", "paxion", "moments_in_time_qa", "kinetics_qa"), 60_000),
)


def _tracking() -> tuple[Member, ...]:
    """Sets of tracking: each task has a common rate for its main sets and a small one for the rest."""
    tables = (
        ("track", 0.40, "mevis ref_yt_vos lv_vis vicas revos molmo2_video_track"),
        ("track", 0.05, "burst ref_davis17 yt_vis moca"),
        ("ground", 0.20, "mevis lv_vis vicas revos molmo2_video_track"),
        ("ground", 0.01, "burst moca"),
        ("single_point_track", 0.15, "mevis lv_vis vicas revos molmo2_video_track"),
        ("sot_from_bbox", 0.20, "webuav got10k vasttrack trackingnet"),
        ("sot_from_bbox", 0.10, "burst lvosv1 lvosv2 lasot uwcot webuot latot tnl2k tnllt"),
    )
    return tuple(
        Member(
            name=f"{dataset}_{task}",
            rate=rate,
            cap=30_000 if dataset == "vicas" else None,
            kind="tracking",
        )
        for task, rate, datasets in tables
        for dataset in datasets.split()
    )


# Counts of 0 to 5, 6 to 25 and 26 to 60 points, and sets of others: shares set by hand, whatever the sizes.
_VIDEO_POINTING = tuple(
    Member(name=name, rate=rate, by_size=False, kind="pointing")
    for name, rate in (
        ("minmax_0_5", 0.4),
        ("minmax_6_25", 0.3),
        ("minmax_26_60", 0.1),
        ("academic_points_clip_63s_2fps", 0.2),
    )
)

_IMAGE_POINTING = _capped(
    _members(
        "pixmo_multi_points pixmo_points_train pixmo_count_train pixmo_points_high_freq_train cosyn_point",
        kind="pointing",
    ),
    {"pixmo_multi_points": 200_000},
)

# Stages 2 and 3.
STAGE2 = Mixture(
    groups=(
        Group(name="demo", rate=0.15, members=_DEMO),
        Group(name="video_academic", rate=0.20, members=_VIDEO_ACADEMIC),
        Group(name="image_academic", rate=0.25, members=_IMAGE_ACADEMIC),
        Group(name="tracking", rate=0.15, members=_tracking()),
        Group(name="video_pointing", rate=0.15, members=_VIDEO_POINTING),
        Group(name="image_pointing", rate=0.10, members=_IMAGE_POINTING),
        Group(name="nlp", rate=0.0995, members=_members("tulu4_max_4096")),
        Group(name="hardcodes", rate=0.0005, members=_members("molmo2_hardcodes")),
    )
)

# The rule of the released code for caps.
STAGE2_RELEASED = replace(STAGE2, cap_is_size=True)

_MOLMO_POINT_RATES = {"tracking": 0.12, "video_pointing": 0.11, "image_pointing": 0.07}

# The groups' rates of the released MolmoPoint run, with less of grounding. That run also weighs the sets of
# video pointing in another way, and has sets of its own; these are not in the table.
STAGE2_MOLMO_POINT = replace(
    STAGE2_RELEASED,
    groups=tuple(
        replace(group, rate=_MOLMO_POINT_RATES.get(group.name, group.rate))
        for group in STAGE2_RELEASED.groups
    ),
)
