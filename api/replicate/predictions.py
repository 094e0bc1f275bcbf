"""A job as a prediction, for the caller of a request."""

from collections.abc import Mapping
from typing import Any

from api.http.answers import Links
from api.replicate.models import streams_text
from shared.domain import predictions
from shared.domain.models.catalog import Catalog
from shared.domain.records import Record


def prediction(
    record: Record,
    links: Links,
    catalog: Catalog,
    *,
    given: Mapping[str, Any] | None = None,
    made: bool = False,
) -> dict[str, Any]:
    """See `shared.domain.predictions.prediction`. Its stream's URL carries a ticket: node sends no token."""
    urls = predictions.urls(links.base, record.id, links.tickets.issue(record.id))
    text = is_text(record.fields["model"], catalog)
    return predictions.prediction(record, urls, text=text, given=given, made=made)


def is_text(model: str, catalog: Catalog) -> bool:
    """Whether a model's output is text, which its jobs stream; so it seems of one that is gone."""
    spec = next((spec for spec in catalog if spec.name == model), None)
    return spec is None or streams_text(spec)
