import pytest
from flask import Flask, url_for
from werkzeug.routing import Rule

from api.http.url_rule import UrlRule

PATHS = ("/jobs", "/jobs/<job_id>", "/models/<owner>/<name>/versions/<int:number>")
VALUES = (
    ("/jobs", {"status": "failed", "after": "a b"}),
    ("/jobs/<job_id>", {"job_id": "a é"}),
    ("/models/<owner>/<name>/versions/<int:number>", {"owner": "o", "name": "n", "number": 7}),
    (
        "/models/<owner>/<name>/versions/<int:number>",
        {"owner": "o", "name": "n", "number": 7, "x": 1},
    ),
)


def app_of(kind: type[Rule]) -> Flask:
    app = Flask("test", static_folder=None)
    app.url_rule_class = kind
    for path in PATHS:
        app.add_url_rule(path, path, lambda **found: found)
    return app


@pytest.mark.parametrize(("endpoint", "values"), VALUES)
def test_urls_are_built_and_matched_as_by_werkzeugs_own(
    endpoint: str, values: dict[str, object]
) -> None:
    built, found = [], []
    for kind in (Rule, UrlRule):
        app = app_of(kind)
        with app.test_request_context():
            built.append(url_for(endpoint, **values))  # type: ignore[arg-type]
            built.append(url_for(endpoint, **values))  # type: ignore[arg-type]
        found.append(app.test_client().get(built[0]).get_json())

    assert len(set(built)) == 1
    assert found[0] == found[1] is not None
