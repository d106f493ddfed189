"""The reason codes that only mammography has: which kind of image is none of the standard views that are read."""

from __future__ import annotations

from imaging.errors import ReasonCode


class MammographyReason(ReasonCode):
    """Why a mammogram was not read, or not as the view that it shows."""

    FOR_PROCESSING = (
        "for_processing",
        "an image meant for processing, not for reading; its view was not analysed from it",
        "Export the For Presentation image of this view.",
        3,
    )
    TOMOSYNTHESIS = (
        "tomosynthesis",
        "tomosynthesis: projections or slices, not a two-dimensional mammogram",
        "Nothing, or export the two-dimensional mammogram of this view.",
        5,
    )
    SYNTHETIC_2D = (
        "synthetic_2d",
        "a two-dimensional image computed from tomosynthesis, not an exposure of its own",
        "Nothing, or export the mammogram that was exposed for this view.",
        4,
    )
    CONTRAST_MAMMOGRAM = (
        "contrast_mammogram",
        "a high-energy or recombined image of contrast-enhanced mammography",
        "Nothing: the low-energy image of the view is the one that is read.",
        6,
    )
    SPECIMEN = "specimen", "an image of a tissue specimen, not of a breast", "Nothing.", 10
    IMPLANT_DISPLACED = "implant_displaced", "a view with the implant pushed back, not a standard view", "Nothing.", 7
    SPOT_OR_MAGNIFICATION = (
        "spot_or_magnification",
        "a spot compression or magnification view, not a standard view",
        "Nothing.",
        8,
    )
    OTHER_VIEW = "other_view", "a mammographic view other than the standard CC and MLO", "Nothing.", 9
    UNKNOWN_VIEW = (
        "unknown_view",
        "the header does not say which view of which breast this is, so it was not analysed",
        "Correct ImageLaterality and ViewPosition at the source, then export again.",
    )
    PARTIAL_VIEW = (
        "partial_view",
        "it shows a part of a breast that another image shows whole",
        "Nothing: the whole image is used.",
    )
    MODIFIED_VIEW = (
        "modified_view",
        "a modified image of a view of which there is a plain one",
        "Nothing: the plain image is used.",
    )
    BURNED_IN_CAPTURE = (
        "burned_in_capture",
        "a secondary capture with words burned into its pixels, not an exposure",
        "Export the exposure of which it was taken.",
    )
    CAPTURED_VIEW = (
        "captured_view",
        "a secondary capture of a view of which there is an exposure",
        "Nothing, or export the For Presentation image of the exposure where that is unread.",
    )
    DOUBTFUL_REPEAT = (
        "doubtful_repeat",
        "a second image of one view in an exam of three standard views: it may be the fourth, wrongly marked",
        "Look which view it shows, and correct it at the source.",
    )
    REPEATED_VIEW = "repeated_view", "a later image of the same view was taken", "Nothing: the later image is used."
