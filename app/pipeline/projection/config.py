"""What a person may choose about a map; every field changes the result, and a wrong one is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.pipeline.validation import validated

Metric = Literal["cosine", "euclidean"]

# What the original system took beside these: how its page of a map is drawn (the parameters of datamapplot's
# interactive plot), and how many clusters it named by one request. Our page has looks of its own.
_LOOKS = frozenset({
    "background_color", "background_image", "background_image_bounds", "cluster_boundary_line_width",
    "cluster_boundary_polygons", "color_label_text", "cvd_safer", "darkmode", "enable_topic_tree",
    "font_family", "font_weight", "height", "initial_zoom_fraction", "inline_data", "label_wrap_width",
    "line_spacing", "llm_batch_size", "logo", "logo_width", "max_fontsize", "min_fontsize", "noise_color",
    "noise_label", "palette_hue_radius_dependence", "palette_hue_shift", "palette_theta_range",
    "point_hover_color", "point_line_width", "point_line_width_max_pixels", "point_line_width_min_pixels",
    "point_radius_max_pixels", "point_radius_min_pixels", "point_size_scale", "polygon_alpha", "sub_title",
    "sub_title_font_size", "text_collision_size_scale", "text_max_pixel_size", "text_min_pixel_size",
    "text_outline_color", "text_outline_width", "title", "title_font_size", "title_font_weight",
    "tooltip_font_family", "tooltip_font_weight", "use_medoids", "width",
})  # fmt: skip


class ProjectionConfig(BaseModel):
    """Parameters of one map, in the names that the visualization resource uses.

    `min_cluster_size` None means one third of the square root of the number of points, at least 5: the
    grain that a person can still read, at every size of corpus.
    `llm_id` names the language model that names topics, told what `topic_naming_prompt` adds; None leaves
    them their keywords.
    `n_epochs` None means 200 rounds of layout, fewer above 50,000 points (`project.epochs_for`).
    What only changed the looks of the original's maps is taken, so that its clients work, and left out.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    n_neighbors: int = Field(default=15, ge=2, le=200)
    min_dist: float = Field(default=0.1, ge=0.0, le=0.99)
    metric: Metric = "cosine"
    n_epochs: int | None = Field(default=None, ge=20, le=1000)
    min_cluster_size: int | None = Field(default=None, ge=2, le=100_000)
    min_samples: int = Field(default=5, ge=1, le=1_000)
    max_topics: int | None = Field(default=None, ge=1, le=10_000)
    keywords_per_topic: int = Field(default=8, ge=3, le=30)
    samples_per_cluster: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    llm_id: int | None = Field(default=None, ge=1, le=2**31 - 1)
    topic_naming_prompt: str | None = Field(default=None, max_length=2_000)

    @model_validator(mode="before")
    @classmethod
    def _without_looks(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        return {name: value for name, value in raw.items() if name not in _LOOKS}

    @model_validator(mode="after")
    def _samples_fit_the_cluster(self) -> Self:
        if self.min_cluster_size is not None and self.min_samples > self.min_cluster_size:
            msg = (
                f"min_samples ({self.min_samples}) must not be larger than "
                f"min_cluster_size ({self.min_cluster_size})"
            )
            raise ValueError(msg)
        return self

    def cluster_size_for(self, points: int) -> int:
        """The smallest number of points that may form a topic of a corpus of `points` points."""
        if self.min_cluster_size is not None:
            return self.min_cluster_size
        return max(5, self.min_samples, round(math.sqrt(points) / 3))


def check_config(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with its defaults; raises InvalidInputError that names the field and the rule."""
    return validated(ProjectionConfig, raw, field="visualization_config").model_dump()
