import pytest

from workers.engines.texts.messages.forms import CALLS, Written, forced_form, form_of


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("… <tool_call> …", "hermes"),
        ("… <tool_call>\n<function=… tool_calls", "hermes"),
        ("… [TOOL_CALLS] …", "mistral"),
        ('… {"name": …, "parameters": …} …', "llama"),
        ("… <|python_tag|> …", "llama"),
        ("… <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function …", "deepseek"),
        ("… <|tool_calls_section_begin|> …", "kimi"),
        ("… <minimax:tool_call> <invoke name= … <tool_call>", "minimax"),
        ("… <｜DSML｜function_calls> …", "dsml"),
        ("… <|start|>assistant<|channel|> …", "harmony"),
        (None, "hermes"),
    ],
)
def test_a_template_tells_the_form(template: str | None, form: Written) -> None:
    assert form_of(template) == form


def test_every_form_has_one_for_calls_that_must_be_made() -> None:
    assert {form: forced_form(form) for form in CALLS} == {
        "hermes": "hermes",
        "llama": "llama",
        "mistral": "mistral",
        "deepseek": "hermes",
        "kimi": "hermes",
        "minimax": "hermes",
        "dsml": "hermes",
    }
    assert forced_form("harmony") == "hermes"
