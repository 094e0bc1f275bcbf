from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from api.openapi.request_schema import output_schema
from shared.domain.models.catalog import ModelSpec
from shared.domain.pipeline_outputs import PIPELINE_OUTPUTS


def pipeline(task: str) -> ModelSpec:
    return ModelSpec(name="m", engine="pipeline", path=Path("m"), options={"task": task})


@pytest.mark.parametrize("task", PIPELINE_OUTPUTS)
def test_the_output_of_a_pipeline_has_the_form_of_its_task(task: str) -> None:
    schema = output_schema(pipeline(task))

    Draft202012Validator.check_schema(schema)
    assert "$ref" not in str(schema)
    assert not Draft202012Validator(schema).is_valid("a text"), (
        "every task answers more than a text"
    )


def test_labels_and_boxes_are_told_apart() -> None:
    label = {"label": "cat", "score": 0.5}
    found = label | {"box": {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}}

    assert Draft202012Validator(output_schema(pipeline("image-classification"))).is_valid([label])
    objects = Draft202012Validator(output_schema(pipeline("object-detection")))
    assert objects.is_valid([found])
    assert not objects.is_valid([label])


def test_an_engine_of_ones_own_and_an_unknown_task_answer_any_json() -> None:
    own = ModelSpec(name="m", engine="mine:Engine", path=Path("m"))

    assert output_schema(own) == output_schema(pipeline("juggling")) == {}
