from flask.testing import FlaskClient

from shared.domain.errors import PROBLEMS


def test_the_type_of_every_problem_leads_somewhere(anonymous: FlaskClient) -> None:
    for code, problem in PROBLEMS.items():
        page = anonymous.get(f"/problems/{code.replace('_', '-')}")

        assert page.status_code == 200 and page.content_type == "text/html; charset=utf-8"
        assert code in page.text and str(problem.status) in page.text
        assert "`" not in page.text


def test_the_type_of_an_answer_is_such_a_path(anonymous: FlaskClient) -> None:
    problem = anonymous.get("/v1/jobs").json

    assert problem["title"] in anonymous.get(problem["type"]).text


def test_other_names_are_not_found(anonymous: FlaskClient) -> None:
    for name in ("nothing", "not_found", "<script>", "NOT-FOUND"):
        response = anonymous.get(f"/problems/{name}")
        assert response.status_code == 404 and "script" not in response.text
