"""The reason codes that only prostate MRI has: what of its diffusion and contrast series is not read."""

from __future__ import annotations

from imaging.errors import ReasonCode


class ProstateReason(ReasonCode):
    """Why a series of a prostate exam plays no role."""

    DYNAMIC_CONTRAST = "dynamic_contrast", "one phase of a dynamic contrast-enhanced scan", "Nothing."
    DIFFUSION_DIRECTION = (
        "diffusion_direction",
        "diffusion along one direction only, not the mean over directions",
        "Export the trace images of the series as well.",
    )
    CALCULATED_B = (
        "calculated_b",
        "diffusion at a b-value that was calculated, while an acquired one is there",
        "Nothing: it is calculated again from the acquired ones where it is needed.",
    )
    NO_HIGH_B = (
        "no_high_b_value",
        "diffusion without a usable high b-value beside it",
        "Export all b-values of the scan.",
        15,
    )
