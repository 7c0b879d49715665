"""The only place that builds concrete things, from settings to services. Nothing connects here.

Heavy libraries are imported when a stage is first used, so a web process never loads UMAP.
"""

from app.container.parts import Container, build
from app.container.use_cases import Services

__all__ = ["Container", "Services", "build"]
