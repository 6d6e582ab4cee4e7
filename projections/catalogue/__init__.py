"""What readers see: series with their published chapters, and chapters with their pages."""

from projections.catalogue.queries import GetChapter, GetSeries, ListSeries, image_is_public
from projections.catalogue.rows import Catalogue

__all__ = ["Catalogue", "GetChapter", "GetSeries", "ListSeries", "image_is_public"]
